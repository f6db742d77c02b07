//! /proc/PID/mountinfo, as a program shall see it: numbered in its own order.
//!
//! Mounts are numbered by the kernel, all of the machine together, and those of a run with process ids of its own are made
//! anew for it. Pure over text.

use std::collections::HashMap;
use std::fmt::Write;

use crate::model::ProjectFolder;

/// The devices of the /proc that was made for the run, and of the folder in which it sees the project's.
const PROC_DEVICE: &str = "0:4";
const FOLDER_DEVICE: &str = "0:5";

/// The same text with mounts numbered from 1 on, in their order (proc_pid_mountinfo(5): the first two fields are the
/// numbers of the mount and of the one that it is on). Of two mounts on /proc the second is the run's own.
pub fn renumbered(text: &str) -> String {
    let mut numbers = HashMap::new();
    let mut number = |old: &str| {
        let next = numbers.len() + 1;
        *numbers.entry(old.to_owned()).or_insert(next)
    };
    for line in text.lines() {
        number(line.split(' ').next().unwrap_or_default());
    }
    let project = text.lines().map(|line| line.split(' '));
    let mut project = project.filter_map(|mut fields| Some((fields.nth(1)?, fields.nth(2)?)));
    let project = project.find(|(_, place)| *place == ProjectFolder::SHOWN);
    let mut seen_proc = false;
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next().unwrap_or_default();
        let (mount, on, device, root, place, rest) =
            (next(), next(), next(), next(), next(), next());
        let is_proc = place == "/proc";
        // Where it is on its own file system is the checkout's path again.
        let root = match place == ProjectFolder::SHOWN {
            true => "/",
            false => root,
        };
        let holds_project =
            place == ProjectFolder::ABOVE && project.is_some_and(|(folder, _)| folder == mount);
        let device = match is_proc && seen_proc {
            true => PROC_DEVICE,
            false if holds_project => FOLDER_DEVICE,
            false => device,
        };
        seen_proc |= is_proc;
        let (mount, on) = (number(mount), number(on));
        // Writing to a text cannot fail.
        let _ = writeln!(shown, "{mount} {on} {device} {root} {place} {rest}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_mounts_are_those_of_their_order() {
        let text = "43 42 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    45 43 0:21 / /proc rw - proc proc rw\n\
                    63 45 0:139 / /proc rw - proc proc rw\n";
        assert_eq!(
            renumbered(text),
            "1 4 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
             2 1 0:21 / /proc rw - proc proc rw\n\
             3 2 0:4 / /proc rw - proc proc rw\n"
        );
        assert_eq!(renumbered(""), "");
    }

    #[test]
    fn the_projects_mount_is_the_same_for_every_checkout() {
        let text = "43 42 254:0 / / rw - ext4 /dev/vda rw\n\
                    64 43 0:140 / /srv ro - tmpfs tmpfs rw\n\
                    65 64 254:0 /home/me/work /srv/project rw - ext4 /dev/vda rw\n";
        assert_eq!(
            renumbered(text),
            "1 4 254:0 / / rw - ext4 /dev/vda rw\n\
             2 1 0:5 / /srv ro - tmpfs tmpfs rw\n\
             3 2 254:0 / /srv/project rw - ext4 /dev/vda rw\n"
        );
    }
}
