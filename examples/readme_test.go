package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// All Go that the README shows is the text of a test or of an example, which
// compile.
func TestReadmeSnippets(t *testing.T) {
	text, source := read(t, "README.md"), read(t, "clients_test.go")
	source += strings.ReplaceAll(source, "\n\t", "\n") // for what is in functions
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Error("no snippets")
	}
	for _, block := range blocks {
		if !strings.Contains(source, block[1]) {
			t.Errorf("not the text of a test:\n%s", block[1])
		}
	}

	code := regexp.MustCompile("`([^`]+)`")
	rows := regexp.MustCompile(`(?m)^\| ([^|]*)\(([\w/]+/main\.go)\) \| (.*) \|$`).FindAllStringSubmatch(text, -1)
	for _, row := range rows {
		client, file, matters := row[1], row[2], row[3]
		for _, snippet := range code.FindAllStringSubmatch(matters, -1) {
			if !strings.Contains(read(t, file), snippet[1]) {
				t.Errorf("%s: %s has no %s", client, file, snippet[1])
			}
		}
	}
}

// The examples' README has all programs and their flags.
func TestReadmePrograms(t *testing.T) {
	text := read(t, "README.md")
	programs := map[string][]string{} // by flag
	for _, file := range glob(t, "*/main.go") {
		program := filepath.Dir(file)
		if !strings.Contains(text, "["+program+"]("+filepath.ToSlash(file)+") |") {
			t.Errorf("no row for %s", program)
		}
		for _, flag := range regexp.MustCompile(`flag\.\w+\("(\w+)"`).FindAllStringSubmatch(read(t, file), -1) {
			programs[flag[1]] = append(programs[flag[1]], program)
		}
	}
	for flag, of := range programs {
		list := strings.Join(of, ", ")
		if slices.Equal(of, programs["region"]) {
			list = "all"
		}
		if row := "| `-" + flag + "` | " + list + " |"; !strings.Contains(text, row) {
			t.Errorf("no row begins with %q", row)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `-(\\w+)` \\|").FindAllStringSubmatch(text, -1) {
		if programs[row[1]] == nil {
			t.Errorf("no program has -%s", row[1])
		}
	}
}
