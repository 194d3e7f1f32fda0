// Package buildinfo says which build of a command runs.
package buildinfo

import (
	"fmt"
	"runtime/debug"
)

// Version returns the line that a command prints for -version: its name, the
// version of the module and that of Go.
func Version(command string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return command + " (unknown version)"
	}
	return fmt.Sprintf("%s %s %s", command, info.Main.Version, info.GoVersion)
}
