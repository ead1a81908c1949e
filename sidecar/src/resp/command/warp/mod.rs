//! What Warp has beyond Redis, as commands that any client can send. A name with a dot is one
//! command and not a subcommand, so that clients that know no such thing pass it on as it is.

pub(super) mod explain;
pub(super) mod session;
