// Package awstest holds what the tests of both modules share: an environment
// without the machine's AWS settings, a source of credentials and the authority
// that judges tokens signed with them, and the ends of a network in memory.
package awstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Isolate makes home the home directory, and hides the variables whose names
// begin with one of prefixes, until the function that it returns is called. It
// cannot use t.Setenv, which TestMain does not have.
func Isolate(home string, prefixes ...string) (restore func()) {
	saved := os.Environ()
	for _, variable := range saved {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range prefixes {
			if strings.HasPrefix(strings.ToUpper(name), prefix) {
				os.Unsetenv(name)
			}
		}
	}
	os.Setenv("HOME", home)
	os.Setenv("USERPROFILE", home)
	// The SDK resolves the home directory at init, so HOME alone changes nothing.
	os.Setenv("AWS_CONFIG_FILE", filepath.Join(home, ".aws", "config"))
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, ".aws", "credentials"))
	// The default chain would ask an address outside the machine for a role.
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return func() {
		os.Clearenv()
		for _, variable := range saved {
			name, value, _ := strings.Cut(variable, "=")
			os.Setenv(name, value)
		}
	}
}

// Main runs the tests of a package with no AWS settings but their own and no proxy,
// and returns the exit status.
func Main(m *testing.M) int {
	home, err := os.MkdirTemp("", "bedrocktoken")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(home)
	defer Isolate(home, "AWS_", "HTTP_PROXY", "HTTPS_PROXY")()
	return m.Run()
}

// Set sets variables for a test.
func Set(t *testing.T, env map[string]string) {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
}

// WriteConfig makes text the shared config file of a test.
func WriteConfig(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
}
