package measure

import "golang.org/x/sys/unix"

// CPUTime is what this process has used of CPUs so far, in nanoseconds. Work on one thread takes as
// much as it would take alone, however busy the machine is.
func CPUTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}
