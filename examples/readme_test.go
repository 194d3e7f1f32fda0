package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var readmes = []string{"../README.md", "README.md"}

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

// All Go that a README shows is the text of an example or a test, which compile.
func TestReadmeSnippets(t *testing.T) {
	code := regexp.MustCompile("`([^`]+)`")
	for readme, source := range map[string]string{"../README.md": "../example_test.go", "README.md": "clients_test.go"} {
		text := read(t, readme)
		source := read(t, source)
		source += strings.ReplaceAll(source, "\n\t", "\n") // for what is in functions
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("%s: no snippets", readme)
		}
		for _, block := range blocks {
			if !strings.Contains(source, block[1]) {
				t.Errorf("%s: not the text of an example:\n%s", readme, block[1])
			}
		}

		rows := regexp.MustCompile(`(?m)^\| ([^|]*)\(([\w/]+/main\.go)\) \| (.*) \|$`).FindAllStringSubmatch(text, -1)
		for _, row := range rows {
			client, file, matters := row[1], filepath.Join(filepath.Dir(readme), row[2]), row[3]
			for _, snippet := range code.FindAllStringSubmatch(matters, -1) {
				if !strings.Contains(read(t, file), snippet[1]) {
					t.Errorf("%s: %s: %s has no %s", readme, client, file, snippet[1])
				}
			}
		}
	}
}

// What the examples' README calls in passing is called in a test.
func TestReadmeCalls(t *testing.T) {
	source := read(t, "clients_test.go")
	text := regexp.MustCompile(`(?m)^\|.*$`).ReplaceAllString(read(t, "README.md"), "") // without tables
	calls := regexp.MustCompile("`([^`\n]+\\([^`\n]*)`").FindAllStringSubmatch(text, -1)
	if len(calls) == 0 {
		t.Error("no calls")
	}
	for _, call := range calls {
		if !strings.Contains(source, call[1]) {
			t.Errorf("not called: %s", call[1])
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

// What a README links is there.
func TestReadmeLinks(t *testing.T) {
	for _, readme := range readmes {
		text := read(t, readme)
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(link[1], "https://") {
				continue
			}
			file, fragment, _ := strings.Cut(link[1], "#")
			in := text
			if file != "" {
				if _, err := os.Stat(filepath.Join(filepath.Dir(readme), file)); err != nil {
					t.Errorf("%s: %v", readme, err)
					continue
				}
				in = read(t, filepath.Join(filepath.Dir(readme), file))
			}
			heading := "# " + strings.ReplaceAll(fragment, "-", " ") + "\n"
			if fragment != "" && !strings.Contains(strings.ToLower(in), heading) {
				t.Errorf("%s: no heading for %s", readme, link[1])
			}
		}
	}
}
