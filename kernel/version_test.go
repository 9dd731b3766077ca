package kernel_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestVersionSaysWhatBugReportsNeed: one line with everything that results and speed depend on.
func TestVersionSaysWhatBugReportsNeed(t *testing.T) {
	v := kernel.Version()
	require.True(t, strings.HasPrefix(v, "quern "), v)
	require.NotContains(t, v, "\n")
	for _, part := range []string{
		fmt.Sprintf("arithmetic %d", kernel.ArithmeticVersion), kernel.ISA(), strings.Join(kernel.ISAs(), " "),
		runtime.GOOS + "/" + runtime.GOARCH, runtime.Version(),
	} {
		require.Contains(t, v, part)
	}
	if err := kernel.ISAError(); err != nil {
		require.Contains(t, v, err.Error())
	}
}
