//! The publisher's side: keys and signatures.
