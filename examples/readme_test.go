package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, error %v", pattern, len(files), err)
	}
	return files
}

// What docs/services.md shows of clients is what clients_test.go tries.
func TestSnippetsAreTried(t *testing.T) {
	tried := read(t, "clients_test.go")
	for _, begin := range []string{"var giveUp", "type tokenSource", "type lazySource"} {
		_, snippet, found := strings.Cut(read(t, "../docs/services.md"), "\n"+begin)
		snippet, _, _ = strings.Cut(snippet, "```")
		if !found || !strings.Contains(tried, begin+snippet) {
			t.Errorf("%s… is not in clients_test.go", begin)
		}
	}
}

// README.md has a row for each program, and its table of flags has all flags.
func TestReadmePrograms(t *testing.T) {
	text := read(t, "README.md")
	flags := map[string]bool{}
	for _, file := range glob(t, "*/main.go") {
		program := filepath.Dir(file)
		if !strings.Contains(text, "["+program+"]("+filepath.ToSlash(file)+") |") {
			t.Errorf("no row for %s", program)
		}
		source := read(t, file)
		for _, flag := range regexp.MustCompile(`flag\.\w+\((?:&[\w.]+, )?"([\w-]+)"`).FindAllStringSubmatch(source, -1) {
			flags[flag[1]] = true
		}
	}
	if len(flags) == 0 {
		t.Error("the programs have no flags")
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`-[^|]*) \\|").FindAllStringSubmatch(text, -1) {
		for _, flag := range regexp.MustCompile("`-([\\w-]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[flag[1]] = true
			if !flags[flag[1]] {
				t.Errorf("no program has -%s", flag[1])
			}
		}
	}
	for flag := range flags {
		if !documented[flag] {
			t.Errorf("no row for -%s", flag)
		}
	}
}

// All programs describe a flag in the same words.
func TestFlagsHaveOneWording(t *testing.T) {
	usage := map[string]string{}
	for _, file := range glob(t, "*/main.go") {
		for _, flag := range regexp.MustCompile(`flag\.String\("(region|endpoint)", "", (".*")\)`).FindAllStringSubmatch(read(t, file), -1) {
			if other, ok := usage[flag[1]]; ok && other != flag[2] {
				t.Errorf("%s: -%s is %s, elsewhere %s", file, flag[1], flag[2], other)
			}
			usage[flag[1]] = flag[2]
		}
	}
	if len(usage) != 2 {
		t.Errorf("usage of -region and -endpoint: %q", usage)
	}
}
