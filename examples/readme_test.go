package examples

import (
	"os"
	"path/filepath"
	"regexp"
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
			client, folder, matters := row[1], filepath.Join(filepath.Dir(readme), filepath.Dir(row[2])), row[3]
			var program strings.Builder
			for _, file := range glob(t, folder+"/*.go") {
				program.WriteString(read(t, file))
			}
			for _, snippet := range code.FindAllStringSubmatch(matters, -1) {
				if !strings.Contains(program.String(), snippet[1]) {
					t.Errorf("%s: %s: %s has no %s", readme, client, folder, snippet[1])
				}
			}
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

// Each program is complete in its folder, so two have the same file.
func TestRoleIsTheSameInBothPrograms(t *testing.T) {
	if read(t, "assumerole/role.go") != read(t, "failover/role.go") {
		t.Error("assumerole/role.go and failover/role.go differ")
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
