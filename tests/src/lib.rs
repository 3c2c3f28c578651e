//! Support for the end-to-end tests: hosts in network namespaces.
