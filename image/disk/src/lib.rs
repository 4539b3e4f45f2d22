//! Bootable media: UKI, FAT, disk layout, qcow2
