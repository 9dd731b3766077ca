//go:build !linux

// Package hugepages asks the operating system for memory in large pages.
package hugepages

// Ask does nothing where the system cannot be asked.
func Ask[T any]([]T) {}
