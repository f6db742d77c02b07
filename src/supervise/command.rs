//! From the name of a program to the file that will be executed, as a shell would find it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::model::ProjectFolder;
use crate::sys::unread;

/// Where programs are looked for without a `PATH` (execvp(3) takes about the same).
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a program cannot be started. The exit codes are those of a shell: 127 and 126.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No word was given.
    #[error("no command was given; write it after `--`, as in `counterfoil count -- sort file`")]
    Empty,
    /// Not in any folder of `PATH`.
    #[error("program `{0}` was not found in PATH; check the spelling, or give its path")]
    NotInPath(String),
    /// No such file.
    #[error("program `{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// It is a folder.
    #[error("`{}` is a folder, not a program", .0.display())]
    Folder(PathBuf),
    /// It may not be executed.
    #[error("`{path}` is not executable; `chmod +x {path}` makes it so, or start it through its interpreter", path = .0.display())]
    NotExecutable(PathBuf),
}

impl CommandError {
    /// The exit code a shell gives for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            CommandError::Empty | CommandError::NotInPath(_) | CommandError::Missing(_) => 127,
            CommandError::Folder(_) | CommandError::NotExecutable(_) => 126,
        }
    }
}

/// What will be executed: a file and its arguments, the zeroth included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Whether that is a shell, and the program that was asked for its script: the first argument.
    pub by_shell: bool,
}

impl Resolved {
    /// The same as a program is started that sees the project's folder elsewhere.
    pub(super) fn inside(&self, folder: &ProjectFolder) -> Resolved {
        let seen = |arg: &OsString| folder.inside(Path::new(arg)).into_os_string();
        let mut args = self.args.clone();
        let path = args.get_mut(usize::from(self.by_shell));
        if let Some(path) = path.filter(|path| path.as_bytes().contains(&b'/')) {
            *path = seen(path);
        }
        Resolved {
            program: folder.inside(&self.program),
            args,
            by_shell: self.by_shell,
        }
    }
}

/// Finds the program of `command` in `path` (a `PATH` value), relative names seen from `cwd`. A text file
/// without a `#!` line is given to /bin/sh, as shells and execvp(3) do.
pub fn resolve(command: &[OsString], path: &OsStr, cwd: &Path) -> Result<Resolved, CommandError> {
    let name = command
        .first()
        .filter(|name| !name.is_empty())
        .ok_or(CommandError::Empty)?;
    let program = find(name, path, cwd)?;
    if is_shell_script(&cwd.join(&program)) {
        let mut args: Vec<OsString> = vec!["sh".into(), program.into()];
        args.extend_from_slice(&command[1..]);
        return Ok(Resolved {
            program: "/bin/sh".into(),
            args,
            by_shell: true,
        });
    }
    Ok(Resolved {
        program,
        args: command.to_vec(),
        by_shell: false,
    })
}

fn find(name: &OsStr, path: &OsStr, cwd: &Path) -> Result<PathBuf, CommandError> {
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return executable(&cwd.join(&file))
            .map(|()| file.clone())
            .map_err(|problem| problem(file));
    }
    let mut denied = None;
    for folder in std::env::split_paths(path) {
        let file = folder.join(name);
        match executable(&cwd.join(&file)) {
            Ok(()) => return Ok(file),
            Err(problem) => {
                denied = denied.or(Some(problem(file)).filter(|p| p.exit_code() == 126))
            }
        }
    }
    Err(denied.unwrap_or_else(|| CommandError::NotInPath(name.to_string_lossy().into_owned())))
}

/// Whether the file can be executed; otherwise what is wrong with it.
fn executable(file: &Path) -> Result<(), fn(PathBuf) -> CommandError> {
    let metadata = fs::metadata(file).map_err(|_| CommandError::Missing as fn(_) -> _)?;
    if metadata.is_dir() {
        Err(CommandError::Folder)
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err(CommandError::NotExecutable)
    } else {
        Ok(())
    }
}

/// Whether the kernel would answer ENOEXEC and a shell would interpret the file itself: neither ELF nor `#!`.
fn is_shell_script(file: &Path) -> bool {
    let mut head = [0u8; 128];
    let read = unread::open(file).and_then(|mut file| file.read(&mut head));
    let head = &head[..read.unwrap_or(0)];
    !head.is_empty()
        && !head.starts_with(b"\x7fELF")
        && !head.starts_with(b"#!")
        && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &[&str]) -> Vec<OsString> {
        command.iter().map(OsString::from).collect()
    }

    fn folder_with(name: &str, content: &str, mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn finds_a_program_in_the_path_and_keeps_its_short_name_as_argument_zero() {
        let resolved = resolve(
            &words(&["sh", "-c", "true"]),
            OsStr::new("/none:/bin"),
            Path::new("/"),
        );
        let resolved = resolved.unwrap();
        assert_eq!(resolved.program, Path::new("/bin/sh"));
        assert_eq!(resolved.args, words(&["sh", "-c", "true"]));
    }

    #[test]
    fn tells_missing_from_not_executable_as_a_shell_does() {
        let folder = folder_with("plain", "text", 0o644);
        let path = folder.path().as_os_str();
        let error = |name: &str| resolve(&words(&[name]), path, folder.path()).unwrap_err();
        assert_eq!(error("plain").exit_code(), 126);
        assert_eq!(error("./plain").exit_code(), 126);
        assert_eq!(error("absent").exit_code(), 127);
        assert_eq!(error("./absent").exit_code(), 127);
        assert_eq!(error("./").exit_code(), 126);
        assert_eq!(resolve(&[], path, folder.path()), Err(CommandError::Empty));
    }

    #[test]
    fn gives_a_script_without_an_interpreter_line_to_sh() {
        let folder = folder_with("script", "echo hello\n", 0o755);
        let resolved = resolve(&words(&["./script", "a"]), OsStr::new(""), folder.path()).unwrap();
        assert_eq!(resolved.program, Path::new("/bin/sh"));
        assert_eq!(resolved.args, words(&["sh", "./script", "a"]));
    }

    #[test]
    fn the_path_of_a_program_is_that_in_the_folder_that_it_sees() {
        let folder = folder_with("script", "echo hello\n", 0o755);
        let path = folder.path().to_owned();
        let project = ProjectFolder::new(path.clone(), path.clone());
        let script = path.join("script").into_os_string();
        let plain = ["a".into(), script.clone()];
        let by_path = [std::slice::from_ref(&script), &plain[..]].concat();
        let by_path = resolve(&by_path, OsStr::new(""), &path).unwrap();
        let by_path = by_path.inside(&project);
        assert_eq!(by_path.program, Path::new("/bin/sh"));
        assert_eq!(by_path.args[1], "/srv/project/script");
        assert_eq!(by_path.args[2..], plain);
        let by_name = resolve(&words(&["sh", "script"]), OsStr::new("/bin"), &path).unwrap();
        assert_eq!(by_name.inside(&project), by_name);
    }

    #[test]
    fn leaves_a_script_with_an_interpreter_line_to_the_kernel() {
        let folder = folder_with("script", "#!/bin/sh\necho\n", 0o755);
        let resolved = resolve(&words(&["./script"]), OsStr::new(""), folder.path()).unwrap();
        assert_eq!(resolved.program, Path::new("./script"));
    }
}
