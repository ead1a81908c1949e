//! Where a unix socket may be. Its folder is mounted into every container of the pod, over what the
//! container's own image has there: a socket in `/tmp` would hide all of `/tmp`.

/// Folders that belong to the system with all that is below them.
const SYSTEM: [&str; 11] =
    ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "sys", "usr"];
/// Folders below `/run` that belong to Kubernetes or the system.
const RUN: [&str; 3] = ["secrets", "lock", "user"];
/// The longest path that the system takes for a socket, and a bit less.
const LONGEST: usize = 100;

/// What [`is_fitting`] asks for, to a person.
pub const ADVICE: &str = "give an absolute path of at most 100 characters in a folder that is the socket's alone and two levels deep, such as /run/warp/warp.sock: the folder hides what the containers have there";

/// Whether `path` is in a folder that hides nothing a container needs: at least two levels deep, and
/// not one of the system's. The WarpCluster's schema has the same rule in CEL.
pub fn is_fitting(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/').filter(|_| path.len() <= LONGEST) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    if parts.iter().any(|part| ["", ".", ".."].contains(part)) {
        return false;
    }
    match *parts.as_slice() {
        // The last of the three are `/var/lib`, `/home/app` and their like.
        [] | [_] | [_, _] | ["var" | "home", _, _] => false,
        [top, ..] if SYSTEM.contains(&top) => false,
        ["run", second, ..] | ["var", "run", second, ..] => !RUN.contains(&second),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_its_own_is_fitting() {
        for path in [
            "/run/warp/warp.sock",
            "/var/run/warp/warp.sock",
            "/tmp/warp/warp.sock",
            "/home/app/warp/redis.sock",
            "/srv/a/b/c.sock",
        ] {
            assert!(is_fitting(path), "{path}");
        }
    }

    #[test]
    fn what_would_hide_folders_of_the_containers_is_not() {
        for path in [
            "",
            "/",
            "warp.sock",
            "run/warp/warp.sock",
            "/warp.sock",
            "/tmp/x.sock",
            "/run/x.sock",
            "/data/x.sock",
            "/etc/ssl/x.sock",
            "/usr/lib/redis/x.sock",
            "/var/lib/x.sock",
            "/var/run/x.sock",
            "/home/app/x.sock",
            "/run/secrets/x.sock",
            "/var/run/secrets/kubernetes.io/x.sock",
            "/run/warp/../x.sock",
            "/run//warp/x.sock",
            "/run/warp/",
            &format!("/run/warp/{}", "x".repeat(100)),
        ] {
            assert!(!is_fitting(path), "{path}");
        }
    }
}
