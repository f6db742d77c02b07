//! Who listens on a TCP port, as /proc tells it (proc_pid_net(5)): asking does not disturb the listener.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `st` of a socket that listens (include/net/tcp_states.h: TCP_LISTEN).
const LISTENING: &str = "0A";

/// The sockets that listen on `port` in the network of process `pid`, by inode.
pub(super) fn listeners(pid: u32, port: u16) -> Vec<u64> {
    let table = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let texts = [table("tcp"), table("tcp6")];
    texts.iter().flat_map(|text| in_table(text, port)).collect()
}

/// From the lines of a table: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`.
fn in_table(text: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let mut fields = line.split_whitespace();
        let (_, local) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let here = u16::from_str_radix(local, 16) == Ok(port) && state == LISTENING;
        here.then_some(inode)
    };
    text.lines().filter_map(inode).collect()
}

/// In words, the process that has this socket open; none when we may not look into it.
pub(super) fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| has_open(*pid, &wanted))?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = command
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let command: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    Some(format!("`{}` (pid {pid})", command.join(" ")))
}

fn has_open(pid: u32, wanted: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let target = |file: &Path| fs::read_link(file).ok();
    files
        .flatten()
        .filter_map(|entry| target(&entry.path()))
        .any(|target| target.as_os_str().as_bytes() == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_on_the_port_count() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0C45 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            \x20  1: 0100007F:0C45 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
            \x20  2: 0100007F:0C46 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(in_table(text, 0x0c45), [4711]);
        assert_eq!(in_table(text, 1), [0u64; 0]);
        assert_eq!(in_table("nonsense\n", 1), [0u64; 0]);
    }

    #[test]
    fn finds_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listeners(std::process::id(), port);
        assert_eq!(found.len(), 1);
        let owner = owner(found[0]).unwrap();
        assert!(
            owner.contains(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
    }
}
