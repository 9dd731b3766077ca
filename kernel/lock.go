package kernel

import "sync"

// lock is held for reading by any number of callers, or for writing by one. Those who want to write go before those
// who come to read later, unless somebody reads while a user's function runs. Then readers never wait for a writer
// that waits: the function may read too, and its caller would wait for itself.
type lock struct {
	mu        sync.Mutex
	free      sync.Cond
	readers   int
	functions int // readers that run user's functions
	wanted    int // writers that wait
	writing   bool
}

// wait waits for another caller. The mutex is held.
func (l *lock) wait() {
	l.free.L = &l.mu
	l.free.Wait()
}

// read locks for reading. Functions says that user's functions run before unread.
func (l *lock) read(functions bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing || l.wanted > 0 && l.functions == 0 {
		l.wait()
	}
	l.readers++
	if functions {
		l.functions++
	}
}

// unread is the inverse of read.
func (l *lock) unread(functions bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers--
	if functions {
		l.functions--
	}
	if l.readers == 0 {
		l.free.Broadcast()
	}
}

// write locks for writing.
func (l *lock) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted++
	for l.writing || l.readers > 0 {
		l.wait()
	}
	l.wanted--
	l.writing = true
}

// unwrite is the inverse of write.
func (l *lock) unwrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
	l.free.Broadcast()
}
