package kernel

import "sync/atomic"

// guard lets one caller in at a time and sends a second one away: what serves one caller would be found corrupt by
// assembly, which checks nothing, when two use it. Callers that only read may be in together.
type guard struct {
	callers atomic.Int32 // that read, or -1 for one that does more
}

// enter lets a caller in who changes what is guarded, until leave.
func (g *guard) enter(name string) error {
	if !g.callers.CompareAndSwap(0, -1) {
		return argument(ErrInUse, name, "serves one caller at a time: give each goroutine its own")
	}
	return nil
}

func (g *guard) leave() { g.callers.Store(0) }

// read lets a caller in who only reads, until unread.
func (g *guard) read(name string) error {
	for {
		n := g.callers.Load()
		if n < 0 {
			return argument(ErrInUse, name, "is being changed by another call")
		}
		if g.callers.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (g *guard) unread() { g.callers.Add(-1) }
