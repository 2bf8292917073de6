//! Facts of this machine: host name, boot id, process, user names, clock.
