//go:build !(race || asan || msan)

package kernel_test

// race says that the detector is on: portable code takes many times longer then.
const race = false
