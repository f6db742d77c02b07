//! What of an output is left out before it is held against anything.

/// Parts of outputs that differ from place to place and from time to time, and what stands in their stead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalize {
    /// Paths of the project, the temporary folder and the home folder.
    pub paths: bool,
    /// Times of day, dates and durations.
    pub times: bool,
    /// Patterns, in this order, after the others.
    pub replace: Vec<Replacement>,
}

/// Text that is replaced wherever it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// A regular expression; `^` and `$` are the ends of lines.
    pub pattern: String,
    /// What takes the place of what it matches; `$1` and `${name}` are its groups.
    pub with: String,
}
