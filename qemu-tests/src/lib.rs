//! Boots machines in QEMU and checks what Berth promises
