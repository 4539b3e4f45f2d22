//! OCI and Docker images, from directories, archives and registries, as a file tree
