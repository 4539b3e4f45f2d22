//! The demo container: a web server that shows the machine's status

fn main() {}
