//! The variables that a job's programs are started with: the pinned environment, or ours as it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::command::{DEFAULT_PATH, Resolved};
use super::environment::{self, Environment, StackLayout, script_args};
use super::follow;
use super::job::Job;
use super::sandbox;
use crate::model::explanation::Disturbance;
use crate::model::{Machine, ProjectFolder};

/// The variables of a job's runs: pinned ones, or ours as they are.
pub(super) enum Surroundings {
    Pinned(Environment),
    Ours(BTreeMap<OsString, OsString>),
}

impl Surroundings {
    /// `bin`: a folder to put in front of `PATH`. `folder`: the project's, where programs see it elsewhere.
    pub(super) fn of(
        job: &Job,
        machine: Machine,
        bin: Option<&Path>,
        folder: Option<&ProjectFolder>,
    ) -> Surroundings {
        let ours = environment::seen(std::env::vars_os(), folder);
        // Who it is comes with it.
        let user = sandbox::wants_root(job).then(|| ("USER".into(), "root".into()));
        let ours = ours.chain(user);
        // Where programs see a CPU of ours, they choose by that.
        let masked = machine.cpu.is_none();
        let first = bin.map(|bin| {
            let mut path = bin.as_os_str().to_owned();
            path.push(":");
            path.push(Surroundings::of(job, machine, None, folder).path());
            ("PATH".into(), path)
        });
        let own = job.env.iter().cloned().chain(first);
        match job.pin {
            true => {
                let own = follow::variables(job).chain(own);
                let masked = masked && job.disturbance != Some(Disturbance::CpuModel);
                Surroundings::Pinned(Environment::new(ours, own, masked))
            }
            false => Surroundings::Ours(ours.chain(own).collect()),
        }
    }

    pub(super) fn plain(&self) -> Vec<OsString> {
        match self {
            Surroundings::Pinned(environment) => environment.plain(),
            Surroundings::Ours(all) => all
                .iter()
                .map(|(name, value)| assignment(name, value))
                .collect(),
        }
    }

    /// Where the program is looked for.
    pub(super) fn path(&self) -> OsString {
        self.value("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
    }

    fn value(&self, name: &str) -> Option<OsString> {
        let start = format!("{name}=");
        let plain = self.plain();
        let value = plain
            .iter()
            .find_map(|v| v.as_bytes().strip_prefix(start.as_bytes()));
        value.map(|value| OsStr::from_bytes(value).to_owned())
    }

    /// As the program gets them: pinned ones padded for its path and arguments.
    /// `head` is how its file begins.
    pub(super) fn for_program(
        &self,
        resolved: &Resolved,
        head: &[u8],
        layout: StackLayout,
    ) -> Vec<OsString> {
        let Surroundings::Pinned(environment) = self else {
            return self.plain();
        };
        let path = resolved.program.as_os_str();
        let script = script_args(head, path, &resolved.args);
        environment.padded(layout, path, script.as_ref().unwrap_or(&resolved.args))
    }
}

fn assignment(name: &OsStr, value: &OsStr) -> OsString {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    text
}
