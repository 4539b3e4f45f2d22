//! Configures and builds the kernel from fragments, each symbol with its reason
