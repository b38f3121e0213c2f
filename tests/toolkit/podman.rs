//! Toolkits and kernel images under podman.
