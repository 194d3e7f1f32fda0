package bedrocktoken_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
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

func TestPagesAreShort(t *testing.T) {
	texts := pages(t)
	for page, most := range map[string]int{
		"README.md":               5000,
		"docs/gateways.md":        5000,
		"docs/troubleshooting.md": 4000,
		"docs/token.md":           2000,
	} {
		if size := len(texts[page]); size == 0 || size > most {
			t.Errorf("%s has %d bytes; want 1 to %d", page, size, most)
		}
	}
}

// The package page is read from its beginning to its end.
func TestPackagePageIsShort(t *testing.T) {
	const most = 1500
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset, syntax := token.NewFileSet(), []*ast.File(nil)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		syntax = append(syntax, parsed)
	}
	page, err := doc.NewFromFiles(fset, syntax, "github.com/bedrocktoken/bedrocktoken")
	if err != nil {
		t.Fatal(err)
	}

	text := []string{page.Doc}
	values := func(values []*doc.Value) {
		for _, value := range values {
			text = append(text, value.Doc)
			for _, spec := range value.Decl.Specs {
				text = append(text, spec.(*ast.ValueSpec).Doc.Text(), spec.(*ast.ValueSpec).Comment.Text())
			}
		}
	}
	funcs := func(funcs []*doc.Func) {
		for _, f := range funcs {
			text = append(text, f.Doc)
		}
	}
	values(page.Consts)
	values(page.Vars)
	funcs(page.Funcs)
	for _, typ := range page.Types {
		text = append(text, typ.Doc)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	words := 0
	for field := range strings.FieldsSeq(strings.Join(text, "\n")) {
		if strings.ContainsFunc(field, unicode.IsLetter) {
			words++
		}
	}
	t.Logf("%d words", words)
	if words > most {
		t.Errorf("the package page has %d words; want at most %d", words, most)
	}
}

// Links within the repository lead to a file and, with a fragment, to a heading
// in it. Each page of docs is linked from another page.
func TestPageLinksResolve(t *testing.T) {
	texts := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	linked := map[string]bool{}
	for page, text := range texts {
		text = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(block.ReplaceAllString(text, ""), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
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
	found := 0
	for page, text := range pages(t) {
		for _, block := range blocks(text, "json") {
			found++
			var value any
			if err := json.Unmarshal([]byte(block), &value); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block)
			}
		}
	}
	if found == 0 {
		t.Error("no JSON")
	}
}

// The Go of the pages compiles, but for that of examples, which is a module of
// its own and has a test of its own.
func TestPageSnippetsCompile(t *testing.T) {
	command, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, overlay, found := t.TempDir(), map[string]string{}, 0
	for page, text := range pages(t) {
		if strings.HasPrefix(page, "examples/") {
			continue
		}
		for i, snippet := range blocks(text, "go") {
			found++
			source, err := program(snippet)
			if err != nil {
				t.Errorf("%s, Go block %d: %v in\n%s", page, i+1, err, snippet)
				continue
			}
			name := fmt.Sprintf("%s_%d.go", regexp.MustCompile(`\W`).ReplaceAllString(page, "_"), i+1)
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, source, 0o600); err != nil {
				t.Fatal(err)
			}
			overlay[filepath.Join(root, "internal", "snippets", name)] = file
		}
	}
	if found == 0 {
		t.Fatal("no Go")
	}
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), command, "build", "-overlay", file, "./internal/snippets")
	build.Env = goEnviron
	if output, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// program makes a file of statements, with what a page takes for granted around
// them: the imports, the variables of its text before, and a use of each variable.
func program(snippet string) ([]byte, error) {
	const before = "func _(ctx context.Context, provider *bedrocktoken.Provider, base http.RoundTripper, t *testing.T, want string) {\n{\n"
	source := before + snippet
	parsed, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+source+"}\n}\n", 0)
	if err != nil {
		return nil, err
	}
	body := parsed.Decls[0].(*ast.FuncDecl).Body.List[0].(*ast.BlockStmt)
	for _, statement := range body.List {
		if assign, ok := statement.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, variable := range assign.Lhs {
				source += "_ = " + variable.(*ast.Ident).Name + "\n"
			}
		}
	}
	used := map[string]bool{}
	ast.Inspect(parsed, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok {
				used[name.Name] = true
			}
		}
		return true
	})
	header := "package snippets\n"
	for _, imported := range []string{
		"context", "errors", "fmt", "log", "log/slog", "net/http", "net/http/httptest", "net/http/httputil", "net/url", "os",
		"testing", "testing/synctest", "time",
		"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/config",
		"github.com/aws/aws-sdk-go-v2/credentials", "github.com/bedrocktoken/bedrocktoken",
	} {
		if used[path.Base(imported)] {
			header += fmt.Sprintf("import %q\n", imported)
		}
	}
	return format.Source([]byte(header + source + "}\n}\n"))
}
