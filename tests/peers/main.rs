//! Other clients of registries read what we write, and we read what they write: crane, oras, regctl, cosign, helm, skopeo and podman.
//!
//! `scripts/peers.sh` builds the first five; `scripts/test.sh` runs what can be run.

#[path = "../docker_registry/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod docker_registry;
mod read;
mod referring;
mod shop;
mod written;
