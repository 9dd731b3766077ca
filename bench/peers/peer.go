package main

import "runtime/debug"

// peer is a package that computes some of the problems. A new one is a file, and a line in peers.
type peer struct {
	name   string
	module string        // whose version go.mod says; "" for what is in this module
	use    func() func() // makes it ready to run, and returns a function that undoes it; or nil

	// Each prepares a problem. nil: the package has no such thing, and its users would not compose it.
	dot       func(*dot) *entry
	softmax   func(*softmax) *entry
	sgemm     func(*sgemm) *entry
	attention func(*attention) *entry
}

// entry is a peer that is ready to run a problem.
type entry struct {
	run       func(calls int)
	collect   func()         // copies the result of the last call to the problem's output; nil if it is there already
	elsewhere func() float64 // CPU time of the last calls in a process of the peer's own; or nil
	close     func()         // or nil
	how       string         // what is to be known of it
	firstNS   float64        // CPU time of the first call
	times     timings        // so far
}

// peers are all of them, Quern first.
func peers() []*peer {
	all := append(quern(), plain(), gonum(), vek(), gorgonia(), spago(), gomlx())
	if p := onnxRuntime(); p != nil {
		all = append(all, p)
	}
	return all
}

// version is that of the peer's module in this program.
func (p *peer) version() string {
	if p.module == ortPackage {
		return ortVersion()
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || p.module == "" {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == p.module {
			return m.Version
		}
	}
	return ""
}
