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

// All Go that the README shows is the text of an example that compiles.
func TestReadmeSnippets(t *testing.T) {
	readme := read(t, "../README.md")
	examples := strings.ReplaceAll(read(t, "../example_test.go"), "\n\t", "\n") // which are in functions
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Error("no snippets")
	}
	for _, block := range blocks {
		if !strings.Contains(examples, block[1]) {
			t.Errorf("not in example_test.go:\n%s", block[1])
		}
	}

	code := regexp.MustCompile("`([^`]+)`")
	rows := regexp.MustCompile(`(?m)^\| ([^|]*)\((examples/\w+/main\.go)\) \| (.*) \|$`).FindAllStringSubmatch(readme, -1)
	linked := map[string]bool{}
	for _, row := range rows {
		client, file, matters := row[1], row[2], row[3]
		linked[filepath.Base(filepath.Dir(file))] = true
		for _, snippet := range code.FindAllStringSubmatch(matters, -1) {
			if !strings.Contains(read(t, "../"+file), snippet[1]) {
				t.Errorf("%s: %s has no %s", client, file, snippet[1])
			}
		}
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if name := filepath.Dir(program); !linked[name] && name != "check" {
			t.Errorf("the README does not link %s", program)
		}
	}
}

// What the README links is there.
func TestReadmeLinks(t *testing.T) {
	readme := read(t, "../README.md")
	for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readme, -1) {
		switch target := link[1]; {
		case strings.HasPrefix(target, "https://"):
		case strings.HasPrefix(target, "#"):
			heading := strings.ReplaceAll(strings.TrimPrefix(target, "#"), "-", " ")
			if !strings.Contains(strings.ToLower(readme), "\n## "+heading+"\n") {
				t.Errorf("no heading for %s", target)
			}
		default:
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Error(err)
			}
		}
	}
}
