//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// staleKey is in variables that a tool could take a key from.
const staleKey = "stale"

// tools says where the programs are.
type tools struct {
	node    string
	modules string // node_modules
	bin     string // with bedrock-token and bedrock-proxy
}

// install fetches and builds the tools in dir, and prints their versions.
func install(ctx context.Context, dir string) (tools, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return tools{}, err
	}
	t := tools{node: node, modules: filepath.Join(dir, "node_modules"), bin: filepath.Join(dir, "bin")}
	for _, command := range [][]string{
		{"go", "build", "-C", "..", "-o", t.bin + "/", "./cmd/bedrock-token", "./cmd/bedrock-proxy"},
		// Without scripts: all that they would do is to save a call of node.
		{"npm", "install", "--prefix", dir, "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", codexPackage, claudePackage},
	} {
		if output, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return tools{}, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
		}
	}
	for _, script := range []string{codexScript, claudeScript} {
		version := exec.CommandContext(ctx, node, filepath.Join(t.modules, script), "--version")
		version.Env = []string{"HOME=" + dir, "PATH=" + filepath.Dir(node)}
		output, err := version.Output()
		if err != nil {
			return tools{}, fmt.Errorf("%s --version: %w", script, err)
		}
		fmt.Printf("%s", output)
	}
	return t, nil
}

// What npm would link as codex and claude: they find the program for the platform.
const (
	codexScript  = "@openai/codex/bin/codex.js"
	claudeScript = "@anthropic-ai/claude-code/cli-wrapper.cjs"
)

// A trial is a home directory with AWS credentials, and a server that plays
// Bedrock and accepts those credentials.
type trial struct {
	tools   tools
	home    string
	server  *httptest.Server
	bedrock *fakebedrock.Handler

	mu             sync.Mutex
	oldest, newest int       // of the credentials that the server accepts
	requests       int       // so far
	onAnswer       func(int) // if not nil, gets the number of each request when it is answered
}

func newTrial(tools tools, home string, s scenario) (*trial, error) {
	t := &trial{tools: tools, home: home, oldest: 1, newest: 1}
	t.bedrock = fakebedrock.NewHandler(verify.Service{Region: s.region, Secret: t.secret})
	err := errors.Join(
		t.write(".aws/config", "[default]\nregion = "+profileRegion+"\n"),
		t.write(".aws/credentials", credentials(1)),
		os.Mkdir(t.workDir(), 0o700),
		os.Mkdir(t.tempDir(), 0o700),
	)
	if err != nil {
		return nil, err
	}
	t.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		t.requests++
		n, onAnswer := t.requests, t.onAnswer
		t.mu.Unlock()
		if n == 1 && s.onFirst != nil {
			if answer := s.onFirst(t); answer != "" {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, answer)
				return
			}
		}
		t.bedrock.ServeHTTP(w, r)
		if onAnswer != nil {
			onAnswer(n)
		}
	}))
	return t, nil
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

// replaceCredentials puts new credentials in place of those in the home directory.
// The server still accepts the old ones.
func (t *trial) replaceCredentials() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newest++
	if err := t.write(".aws/credentials", credentials(t.newest)); err != nil {
		panic(err) // the request fails, and with it the scenario
	}
}

// revokeOld makes the server accept only the newest credentials.
func (t *trial) revokeOld() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oldest = t.newest
}

const prompt = "Say hello."

func (t *trial) codex(ctx context.Context, settings string) (output string, err error) {
	if err := t.write(".codex/config.toml", replace(settings, mantleURL, t.server.URL)); err != nil {
		return "", err
	}
	return t.runTool(ctx, nil, codexScript, "exec", "--skip-git-repo-check", prompt)
}

func (t *trial) claude(ctx context.Context, settings string) (output string, err error) {
	if err := t.write(".claude/settings.json", replace(settings, mantleURL, t.server.URL)); err != nil {
		return "", err
	}
	return t.runTool(ctx, nil, claudeScript, "-p", prompt)
}

// claudeConversation says something again until the server has got a token of the
// newest credentials. Claude Code runs its helper beside the first request after
// the interval, and uses what it prints for the next.
func (t *trial) claudeConversation(ctx context.Context, settings string) (output string, err error) {
	if err := t.write(".claude/settings.json", replace(settings, mantleURL, t.server.URL)); err != nil {
		return "", err
	}
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
	return t.runTool(ctx, stdin, claudeScript, "-p", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json")
}

// claudeOverProxy has the proxy make the tokens.
func (t *trial) claudeOverProxy(ctx context.Context, settings string) (output string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := listener.Addr().String()
	listener.Close() // for the proxy to take it
	if err := t.write(".claude/settings.json", replace(settings, proxyURL, "http://"+address)); err != nil {
		return "", err
	}

	proxyCtx, stopProxy := context.WithCancel(ctx)
	var proxyOutput bytes.Buffer
	stopped := make(chan error, 1)
	go func() {
		proxy := t.command(proxyCtx, filepath.Join(t.tools.bin, "bedrock-proxy"), "-region", settingsRegion, "-endpoint", t.server.URL, "-listen", address)
		proxy.Stderr = &proxyOutput
		stopped <- proxy.Run()
	}()
	defer func() {
		stopProxy()
		if <-stopped; err != nil {
			err = fmt.Errorf("%w\nthe proxy printed:\n%s", err, lastLines(proxyOutput.String()))
		}
	}()
	for range 100 {
		if connection, err := net.Dial("tcp", address); err == nil {
			connection.Close()
			return t.runTool(ctx, nil, claudeScript, "-p", prompt)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", errors.New("the proxy does not listen")
}

// runTool runs a tool to its end and returns what it printed.
func (t *trial) runTool(ctx context.Context, stdin *os.File, script string, args ...string) (output string, err error) {
	cmd := t.command(ctx, t.tools.node, append([]string{filepath.Join(t.tools.modules, script)}, args...)...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the tool: %w\n%s", cmp.Or(context.Cause(ctx), err), lastLines(stdout.String()+stderr.String()))
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
		"AWS_BEARER_TOKEN_BEDROCK=" + staleKey,
		"OPENAI_API_KEY=" + staleKey,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with all that it started
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// replace panics if text does not have old: then the settings do not fit.
func replace(text, old, new string) string {
	if !strings.Contains(text, old) {
		panic(fmt.Sprintf("no %q in:\n%s", old, text))
	}
	return strings.ReplaceAll(text, old, new)
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
