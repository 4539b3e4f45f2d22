//! The one program on a Berth machine: PID 1 and every other role

fn main() {}
