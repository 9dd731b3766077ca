//go:build !linux

package sysmem

// AskLarge does nothing where the system cannot be asked.
func AskLarge[T any]([]T) {}

// Discard does nothing where the system cannot be told.
func Discard[T any]([]T) {}
