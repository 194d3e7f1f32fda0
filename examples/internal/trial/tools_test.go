//go:build trial && unix

package trial

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// The versions that are tried.
var packages = []string{
	"@openai/codex@0.171.0",
	"@anthropic-ai/claude-code@2.1.332",
	"opencode-ai@1.18.33",
	"@earendil-works/pi-coding-agent@1.6.0",
	"@aws-sdk/client-bedrock-runtime@3.1164.0",
}

// What npm would link, had it run the packages' scripts. They find the program for
// the platform.
const (
	codexScript  = "@openai/codex/bin/codex.js"
	claudeScript = "@anthropic-ai/claude-code/cli-wrapper.cjs"
	piScript     = "@earendil-works/pi-coding-agent/dist/bundle/cli.js"
)

// Where the tools look for their settings, in the home directory.
const (
	codexFile  = ".codex/config.toml"
	claudeFile = ".claude/settings.json"
	piFile     = ".pi/agent/models.json"
)

//go:embed converse.mjs
var converse string

// staleKey is in variables that a tool could take a key from.
const staleKey = "stale"

// tools says where the programs are.
type tools struct {
	node    string
	dir     string
	modules string // node_modules
	bin     string // with bedrock-token and bedrock-proxy
}

// opencode returns the program for this platform, which its package would put in
// place by a script.
func (t tools) opencode() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return filepath.Join(t.modules, "opencode-"+runtime.GOOS+"-"+arch, "bin", "opencode")
}

// install fetches and builds the tools, and logs their versions.
func install(t *testing.T) tools {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tools := tools{node: node, dir: dir, modules: filepath.Join(dir, "node_modules"), bin: filepath.Join(dir, "bin")}
	for _, command := range [][]string{
		{"go", "build", "-C", "../../..", "-o", tools.bin + "/", "./cmd/bedrock-token", "./cmd/bedrock-proxy"},
		// Without scripts: all that they would do is to put programs in place.
		append([]string{"npm", "install", "--prefix", dir, "--no-save", "--no-package-lock", "--ignore-scripts", "--engine-strict", "--no-audit", "--no-fund", "--loglevel=error"}, packages...),
	} {
		if output, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "converse.mjs"), []byte(converse), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{node},
		{node, filepath.Join(tools.modules, codexScript)},
		{node, filepath.Join(tools.modules, claudeScript)},
		{node, filepath.Join(tools.modules, piScript)},
		{tools.opencode()},
	} {
		version := exec.CommandContext(t.Context(), command[0], append(command[1:], "--version")...)
		version.Env = []string{"HOME=" + dir, "PATH=" + filepath.Dir(node), "HTTPS_PROXY=http://127.0.0.1:9"}
		output, err := version.CombinedOutput() // pi prints to standard error
		if err != nil {
			t.Fatalf("%s --version: %v\n%s", strings.Join(command, " "), err, output)
		}
		t.Logf("%s %s", filepath.Base(command[len(command)-1]), bytes.TrimSpace(output))
	}
	return tools
}

// A trial is a home directory with settings, and a server that plays Bedrock and
// accepts the credentials that are in the home directory, or that the proxy gets.
type trial struct {
	t       *testing.T
	tools   tools
	home    string
	env     []string // more of it for the tool
	bedrock *fakebedrock.Handler

	mu             sync.Mutex
	oldest, newest int       // of the credentials that the server accepts
	posts          int       // so far
	onAnswer       func(int) // if not nil, gets the number of each POST when it is answered
}

func newTrial(t *testing.T, tools tools, s scenario, page string) *trial {
	region := cmp.Or(s.region, settingsRegion)
	trial := &trial{t: t, tools: tools, home: t.TempDir(), oldest: 1, newest: 1}
	trial.bedrock = fakebedrock.NewHandler(verify.Service{Region: region, Secret: trial.secret})
	err := errors.Join(
		trial.write(".aws/config", "[default]\nregion = "+profileRegion+"\n"),
		os.Mkdir(trial.workDir(), 0o700),
		os.Mkdir(trial.tempDir(), 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			trial.bedrock.ServeHTTP(w, r)
			return
		}
		trial.mu.Lock()
		trial.posts++
		n, onAnswer := trial.posts, trial.onAnswer
		trial.mu.Unlock()
		if n == 1 && s.onFirst != nil {
			if status, answer := s.onFirst(trial); status != 0 {
				if status == http.StatusOK {
					w.Header().Set("Content-Type", "text/event-stream")
				} else {
					w.Header().Set("Content-Type", "application/json")
				}
				w.WriteHeader(status)
				io.WriteString(w, answer)
				return
			}
		}
		trial.bedrock.ServeHTTP(w, r)
		if onAnswer != nil {
			onAnswer(n)
		}
	}))
	t.Cleanup(server.Close)

	endpoint := strings.NewReplacer(mantleURL, server.URL)
	if s.overProxy {
		endpoint = strings.NewReplacer(proxyURL, trial.startProxy(server.URL))
	} else if err := trial.write(".aws/credentials", credentials(1)); err != nil {
		t.Fatal(err)
	}
	if s.heading != "" {
		settings := block(t, page, s.heading)
		for edits := s.edits; len(edits) > 0; edits = edits[2:] {
			settings = replace(t, settings, edits[0], edits[1])
		}
		if err := trial.write(s.file, endpoint.Replace(settings)); err != nil {
			t.Fatal(err)
		}
	}
	for _, variable := range s.shown {
		replace(t, page, "`"+variable+"`", "")
		trial.env = append(trial.env, endpoint.Replace(variable))
	}
	return trial
}

func (t *trial) workDir() string { return filepath.Join(t.home, "work") }
func (t *trial) tempDir() string { return filepath.Join(t.home, "tmp") }

// write replaces a file in the home directory at once: somebody may be reading it.
func (t *trial) write(name, text string) error {
	file := filepath.Join(t.home, name)
	return errors.Join(
		os.MkdirAll(filepath.Dir(file), 0o700),
		os.WriteFile(file+".new", []byte(text), 0o600),
		os.Rename(file+".new", file),
	)
}

func accessKeyID(n int) string { return fmt.Sprintf("ASIAHELPER%d", n) }
func secretKey(n int) string   { return fmt.Sprintf("secret/%d+", n) }
func session(n int) string     { return fmt.Sprintf("session/%d+==", n) }

// credentials is the shared credentials file with the credentials of that number.
func credentials(n int) string {
	return fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		accessKeyID(n), secretKey(n), session(n))
}

// secret is a verify.Service's Secret.
func (t *trial) secret(id, sessionToken string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.oldest; n <= t.newest; n++ {
		if id == accessKeyID(n) && sessionToken == session(n) {
			return secretKey(n), nil
		}
	}
	return "", fmt.Errorf("%s is not, or no longer, accepted", id)
}

// replaceCredentials puts new credentials in place of those in use. The server
// still accepts the old ones.
func (t *trial) replaceCredentials() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newest++
	if err := t.write(".aws/credentials", credentials(t.newest)); err != nil {
		t.t.Error(err)
	}
}

// revokeOld makes the server accept only the newest credentials.
func (t *trial) revokeOld() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oldest = t.newest
}

const prompt = "Say hello."

func (t *trial) codex(ctx context.Context) (output string, err error) {
	return t.runScript(ctx, nil, codexScript, "exec", "--skip-git-repo-check", prompt)
}

func (t *trial) claude(ctx context.Context) (output string, err error) {
	return t.runScript(ctx, nil, claudeScript, "-p", prompt)
}

func (t *trial) pi(ctx context.Context) (output string, err error) {
	return t.runScript(ctx, nil, piScript, "--provider", "bedrock", "--model", "openai.gpt-oss-120b", "-p", prompt, prompt)
}

func (t *trial) opencode(ctx context.Context) (output string, err error) {
	return t.runTool(t.command(ctx, t.tools.opencode(), "run", "--model", "amazon-bedrock/openai.gpt-oss-120b-1:0", prompt))
}

func (t *trial) awsSDK(ctx context.Context) (output string, err error) {
	return t.runTool(t.command(ctx, t.tools.node, filepath.Join(t.tools.dir, "converse.mjs")))
}

// claudeConversation says something again until the server has got a token of the
// newest credentials. Claude Code runs its helper beside the first request after
// the interval, and uses what it prints for the next.
func (t *trial) claudeConversation(ctx context.Context) (output string, err error) {
	stdin, conversation, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	defer conversation.Close()
	say := func() {
		fmt.Fprintf(conversation, `{"type":"user","message":{"role":"user","content":%q}}`+"\n", prompt)
	}
	t.mu.Lock()
	t.onAnswer = func(n int) {
		requests := t.bedrock.Requests()
		if n < 10 && requests[len(requests)-1].Token.AccessKeyID == accessKeyID(1) {
			say()
		} else {
			conversation.Close()
		}
	}
	t.mu.Unlock()
	say()
	return t.runScript(ctx, stdin, claudeScript, "-p", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json")
}

// renewalAfter is when the proxy renews its first credentials: 10 seconds after it
// got them at the earliest.
const renewalAfter = 10 * time.Second

// startProxy starts the proxy with credentials of a local server, as in a
// container, and returns its URL.
func (t *trial) startProxy(endpoint string) string {
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		n := t.newest
		t.mu.Unlock()
		life := time.Minute + renewalAfter
		if n > 1 {
			life = time.Hour
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": accessKeyID(n), "SecretAccessKey": secretKey(n), "Token": session(n),
			"Expiration": time.Now().Add(life).UTC(),
		})
	}))
	t.t.Cleanup(source.Close)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // for the proxy to take it

	ctx, stop := context.WithCancel(context.Background()) // the test's ends before its cleanups
	proxy := t.command(ctx, filepath.Join(t.tools.bin, "bedrock-proxy"), "-region", settingsRegion, "-endpoint", endpoint, "-listen", address)
	proxy.Env = append(proxy.Env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+source.URL)
	// Those that replaceCredentials writes are not for the proxy.
	proxy.Env = append(proxy.Env, "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(t.home, "none"))
	var output bytes.Buffer
	proxy.Stderr = &output
	if err := proxy.Start(); err != nil {
		t.t.Fatal(err)
	}
	t.t.Cleanup(func() {
		stop()
		proxy.Wait()
		if t.t.Failed() {
			t.t.Logf("the proxy printed:\n%s", lastLines(output.String()))
		}
	})
	for range 100 {
		if connection, err := net.Dial("tcp", address); err == nil {
			connection.Close()
			return "http://" + address
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.t.Fatal("the proxy does not listen")
	return ""
}

// runScript runs a script of a package to its end and returns what it printed.
func (t *trial) runScript(ctx context.Context, stdin *os.File, script string, args ...string) (output string, err error) {
	cmd := t.command(ctx, t.tools.node, append([]string{filepath.Join(t.tools.modules, script)}, args...)...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	return t.runTool(cmd)
}

// runTool runs a tool to its end and returns what it printed.
func (t *trial) runTool(cmd *exec.Cmd) (output string, err error) {
	cmd.Env = append(cmd.Env, t.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the tool: %w\n%s", err, lastLines(stdout.String()+stderr.String()))
	}
	return stdout.String(), nil
}

// command has no variables but these. Loopback is all that it can reach: another
// host is asked for through a proxy that does not exist.
func (t *trial) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.workDir()
	cmd.Env = []string{
		"HOME=" + t.home,
		"PATH=" + strings.Join([]string{t.tools.bin, filepath.Dir(t.tools.node), "/usr/bin", "/bin"}, string(os.PathListSeparator)),
		"TMPDIR=" + t.tempDir(),
		"HTTPS_PROXY=http://127.0.0.1:9",
		"NO_PROXY=127.0.0.1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"CLAUDE_CODE_MAX_RETRIES=2", // its ten take minutes
		"OPENCODE_DISABLE_AUTOUPDATE=1",
		"OPENCODE_DISABLE_MODELS_FETCH=1",
		"AWS_BEARER_TOKEN_BEDROCK=" + staleKey,
		"OPENAI_API_KEY=" + staleKey,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with all that it started
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// lastLines returns what fits on a screen.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-10):]
	for i, line := range lines {
		lines[i] = fmt.Sprintf("%.200s", line)
	}
	return strings.Join(lines, "\n")
}
