//! The folder of a project: where it is, and where the programs of a suite find it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// A project's folder, which programs see at [`ProjectFolder::SHOWN`] whatever machine and checkout they run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectFolder {
    /// As it was given.
    given: PathBuf,
    /// Without symbolic links.
    real: PathBuf,
}

impl ProjectFolder {
    /// The folder that is covered by one of ours, in which the project's is. The Filesystem Hierarchy Standard (3.0, section
    /// 3.17) has every distribution make it, hardly anybody has anything in it, and no program looks there by itself.
    pub const ABOVE: &str = "/srv";
    /// The project's name in it.
    pub const NAME: &str = "project";
    /// Where programs see the project.
    pub const SHOWN: &str = "/srv/project";

    /// The folder that was `given` as an absolute path, and is `real` when symbolic links are followed.
    pub fn new(given: PathBuf, real: PathBuf) -> ProjectFolder {
        ProjectFolder { given, real }
    }

    /// Where it is, without symbolic links.
    pub fn real(&self) -> &Path {
        &self.real
    }

    /// A path as programs are given it. One that does not lead into the project stays as it is.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let mut known = [&self.given, &self.real].into_iter();
        let below = known.find_map(|folder| path.strip_prefix(folder).ok());
        match below.filter(|below| !climbs_out(below)) {
            Some(below) => joined(Path::new(ProjectFolder::SHOWN), below),
            None => path.to_owned(),
        }
    }

    /// The same for each part of a list such as `PATH`.
    pub fn inside_each(&self, list: &OsStr) -> OsString {
        let parts = list.as_bytes().split(|byte| *byte == b':');
        let inside = |part: &[u8]| {
            let inside = self.inside(Path::new(OsStr::from_bytes(part)));
            inside.into_os_string().into_vec()
        };
        let parts: Vec<_> = parts.map(inside).collect();
        OsString::from_vec(parts.join(&b':'))
    }

    /// Where a path leads that programs have.
    pub fn outside(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix(ProjectFolder::SHOWN) {
            Ok(below) => joined(&self.real, below),
            Err(_) => path,
        }
    }

    /// The same where programs may see the project where it is.
    pub fn outside_of(folder: Option<&ProjectFolder>, path: PathBuf) -> PathBuf {
        match folder {
            Some(folder) => folder.outside(path),
            None => path,
        }
    }

    /// Whether `path`, seen from a folder of the project, climbs out of it: from the folder that programs see, `..` leads
    /// elsewhere.
    pub fn is_left_by(&self, path: &Path, from: &Path) -> bool {
        let mut known = [&self.given, &self.real].into_iter();
        let below = known.find_map(|folder| from.strip_prefix(folder).ok());
        path.is_relative() && below.is_some_and(|below| climbs_out(&below.join(path)))
    }
}

/// `Path::join` with a slash at the end for an empty path, which is another text.
fn joined(folder: &Path, below: &Path) -> PathBuf {
    match below.as_os_str().is_empty() {
        true => folder.to_owned(),
        false => folder.join(below),
    }
}

/// Whether a relative path leads above where it starts, as it is written.
fn climbs_out(path: &Path) -> bool {
    let mut depth = 0;
    path.components().any(|component| {
        depth += match component {
            Component::ParentDir => -1,
            Component::Normal(_) => 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => 0,
        };
        depth < 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> ProjectFolder {
        ProjectFolder::new("/link/work".into(), "/home/me/work".into())
    }

    #[test]
    fn paths_of_the_project_are_the_same_everywhere_and_lead_back() {
        for (path, inside) in [
            ("/link/work", "/srv/project"),
            ("/home/me/work/a/b", "/srv/project/a/b"),
            ("/link/work/a/../b", "/srv/project/a/../b"),
        ] {
            assert_eq!(folder().inside(Path::new(path)).to_str(), Some(inside));
        }
        let outside = |path: &str| folder().outside(path.into());
        assert_eq!(outside("/srv/project/a"), Path::new("/home/me/work/a"));
        assert_eq!(outside("/srv/project"), Path::new("/home/me/work"));
    }

    #[test]
    fn other_paths_stay() {
        for path in ["/link/workshop", "/usr/bin/env", "a", "/link/work/../b"] {
            assert_eq!(folder().inside(Path::new(path)), Path::new(path));
        }
        assert_eq!(
            folder().outside("/srv/projects".into()),
            Path::new("/srv/projects")
        );
    }

    #[test]
    fn each_part_of_a_list_is_a_path() {
        let list = folder().inside_each(OsStr::new("/link/work/bin:/bin::/home/me/work"));
        assert_eq!(list, "/srv/project/bin:/bin::/srv/project");
    }

    #[test]
    fn who_climbs_out_of_the_project_is_known() {
        let leaves = |path: &str, from: &str| folder().is_left_by(Path::new(path), Path::new(from));
        assert!(leaves("../x", "/link/work") && leaves("a/../../../x", "/link/work/b"));
        assert!(
            !leaves("../x", "/link/work/b")
                && !leaves("../x", "/tmp")
                && !leaves("/x", "/link/work")
        );
    }
}
