//! Watches the console's files, which are embedded: without this, new ones would wait for a change in this crate. What
//! builds them is `make web`; this never does, so that a build needs neither Node nor a network.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../web/dist");
}
