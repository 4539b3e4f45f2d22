//! The GUID Partition Table: its bytes, and the order in which a change to it is written.
//!
//! Follows the UEFI Specification 2.10, section 5. `wire` turns one copy of the table into bytes
//! and back, `table` is the table without its copies, `disk` knows both copies: which one firmware
//! believes, and what to write so that a power cut leaves one whole table. Only tables of the form
//! Berth makes are edited (512-byte sectors, 128-byte entries, array at sector 2); any other is
//! refused, never changed.

mod disk;
mod guid;
mod table;
mod wire;

pub use disk::{Action, LoadError, Loaded, ReadSectors, Repair, load, write_actions};
pub use guid::Guid;
pub use table::{Entry, Extent, Name, PlaceError, Table};
pub use wire::{ENTRY_COUNT, ParseError, TABLE_SECTORS, protective_mbr};
