package kernel

import "sync"

// guard lets one caller in at a time and sends a second one away: what serves one caller would be found corrupt by
// assembly, which checks nothing, when two use it. Callers that only read may be in together.
type guard struct{ lock sync.RWMutex }

// enter lets a caller in who changes what is guarded, until leave.
func (g *guard) enter(name string) error {
	if !g.lock.TryLock() {
		return argument(ErrInUse, name, "serves one caller at a time: give each goroutine its own")
	}
	return nil
}

func (g *guard) leave() { g.lock.Unlock() }

// read lets a caller in who only reads, until unread.
func (g *guard) read(name string) error {
	if !g.lock.TryRLock() {
		return argument(ErrInUse, name, "is being changed by another call")
	}
	return nil
}

func (g *guard) unread() { g.lock.RUnlock() }
