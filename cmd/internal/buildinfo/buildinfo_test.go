package buildinfo

import (
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	got := Version("some-command")
	if !strings.HasPrefix(got, "some-command ") || !strings.HasSuffix(got, " "+runtime.Version()) || strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
}
