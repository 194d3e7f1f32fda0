package bedrocktoken_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The environment before TestMain hides the home directory, in which the go
// command has its caches.
var goEnviron = os.Environ()

// pages returns the text of all Markdown files, by slash-separated path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		texts[filepath.ToSlash(file)] = strings.ReplaceAll(string(text), "\r\n", "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var block = regexp.MustCompile("(?sm)^```(\\w*)\n(.*?)^```$")

// blocks returns the code blocks of a page that are in the given language.
func blocks(text, language string) []string {
	var found []string
	for _, match := range block.FindAllStringSubmatch(text, -1) {
		if match[1] == language {
			found = append(found, match[2])
		}
	}
	return found
}

// Links within the repository lead to a file and, with a fragment, to a heading
// in it. Each page of docs is linked from another page.
func TestPageLinksResolve(t *testing.T) {
	texts := pages(t)
	linked := map[string]bool{}
	for page, text := range texts {
		text = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(block.ReplaceAllString(text, ""), "")
		for _, match := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, fragment, _ := strings.Cut(match[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			linked[target] = linked[target] || target != page
			if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
			} else if fragment != "" && !slices.Contains(headings(texts[target]), fragment) {
				t.Errorf("%s links to %s, but %s has no such heading", page, match[1], target)
			}
		}
	}
	for page := range texts {
		if strings.HasPrefix(page, "docs/") && !linked[page] {
			t.Errorf("no page links to %s", page)
		}
	}
}

// headings returns the fragments that GitHub gives to the headings of a page.
func headings(text string) []string {
	var fragments []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		fragment := regexp.MustCompile(`[^\pL\pN_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		fragments = append(fragments, strings.ReplaceAll(fragment, " ", "-"))
	}
	return fragments
}

// The programs of this module that pages tell readers to run or install exist.
func TestPageCommandsExist(t *testing.T) {
	program := regexp.MustCompile(`(?:go run \./|github\.com/bedrocktoken/bedrocktoken/)(cmd/[\w-]+)`)
	for page, text := range pages(t) {
		for _, match := range program.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.FromSlash(match[1]), "main.go")); err != nil {
				t.Errorf("%s: %s: %v", page, match[0], err)
			}
		}
	}
}

func TestPageJSONParses(t *testing.T) {
	for page, text := range pages(t) {
		for _, block := range blocks(text, "json") {
			if err := json.Unmarshal([]byte(block), new(any)); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block)
			}
		}
	}
}

// The Go of the pages compiles, with what a page takes for granted around it: the
// imports, and the variables of its text before. The Go of examples, which is a module
// of its own, has a test there.
func TestPageSnippetsCompile(t *testing.T) {
	command, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	source := "package snippets\n"
	for _, imported := range []string{
		"context", "errors", "fmt", "log", "log/slog", "net/http", "net/http/httptest", "net/http/httputil", "net/url", "os",
		"sync", "testing", "testing/synctest", "time",
		"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/config",
		"github.com/aws/aws-sdk-go-v2/credentials", "github.com/bedrocktoken/bedrocktoken",
	} {
		source += fmt.Sprintf("import %q\n", imported)
	}
	for page, text := range pages(t) {
		if strings.HasPrefix(page, "examples/") {
			continue
		}
		for i, snippet := range blocks(text, "go") {
			source += fmt.Sprintf("func _(ctx context.Context, provider *bedrocktoken.Provider, base http.RoundTripper, t *testing.T, want string) {\n{\n"+
				"//line %s, Go block %d:1\n%s}\n}\n", page, i+1, snippet)
		}
	}
	file := filepath.Join(t.TempDir(), "snippets.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), command, "build", "-gcflags=-e", file)
	build.Env = goEnviron
	output, err := build.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "imported and not used") && !strings.Contains(line, "declared and not used") {
			t.Error(line)
		}
	}
}
