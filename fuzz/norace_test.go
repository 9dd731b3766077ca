//go:build !(race || asan || msan)

package fuzz

// race says that the detector is on: portable code takes many times longer then.
const race = false
