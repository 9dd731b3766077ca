// Package quern is the root of the module; the packages are in its folders. Users import kernel.
package quern

//go:generate sh -c "cd gen && go run ."
