//go:build unix

// Helpers runs the real Codex and the real Claude Code, which get their tokens
// from the command bedrock-token, and Claude Code once more over the proxy. A
// local server plays Bedrock and verifies the tokens. The settings are those that
// the README shows, with the server's URL in place of Bedrock's.
//
//	go -C examples run ./helpers
//
// It needs Node.js and npm, from whose registry it fetches the tools into a
// temporary directory: about 650 MB. It exits with 1 if anything was not as it
// should be.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// The versions that are tried.
const (
	codexPackage  = "@openai/codex@0.169.0"
	claudePackage = "@anthropic-ai/claude-code@2.1.197"
)

// The settings that the README shows, and what is replaced in them.
var (
	//go:embed codex.toml
	codexSettings string
	//go:embed claude-code.json
	claudeSettings string
	//go:embed claude-code-proxy.json
	proxySettings string
)

const (
	mantleURL = "https://bedrock-mantle.us-east-1.api.aws"
	proxyURL  = "http://127.0.0.1:8484"
)

const (
	// settingsRegion is the region in the settings, profileRegion that of the
	// profile.
	settingsRegion = "us-east-1"
	profileRegion  = "eu-central-1"

	toolTimeout = 2 * time.Minute
)

// A scenario is one run of a tool.
type scenario struct {
	name string
	// region is the one whose tokens the server accepts.
	region string
	// onFirst is called when the first request comes. If it returns an answer, that
	// is sent, and nobody judges the request.
	onFirst  func(*trial) (answer string)
	run      func(t *trial, ctx context.Context, settings string) (output string, err error)
	settings string
	// paths has the beginning of every request's path.
	paths []string
	// want is what becomes of the requests: the access key ID of a token that is
	// accepted, or refused. Repetitions count once.
	want []string
}

const refused = "refused"

var scenarios = []scenario{{
	name:     "Codex, region in the arguments",
	region:   settingsRegion,
	run:      (*trial).codex,
	settings: codexSettings,
	paths:    []string{"/v1/responses"},
	want:     []string{accessKeyID(1)},
}, {
	name:     "Codex, region of the profile",
	region:   profileRegion,
	run:      (*trial).codex,
	settings: replace(codexSettings, `args = ["-region", "us-east-1"]`, ""),
	paths:    []string{"/v1/responses"},
	want:     []string{accessKeyID(1)},
}, {
	name:     "Codex, new token after 401",
	region:   settingsRegion,
	onFirst:  func(t *trial) string { t.replaceCredentials(); t.revokeOld(); return "" },
	run:      (*trial).codex,
	settings: codexSettings,
	paths:    []string{"/v1/responses"},
	want:     []string{refused, accessKeyID(2)},
}, {
	name:     "Codex, new token after refresh_interval_ms",
	region:   settingsRegion,
	onFirst:  func(t *trial) string { t.replaceCredentials(); return codexCall },
	run:      (*trial).codex,
	settings: replace(codexSettings, "300000", "1"),
	paths:    []string{"/v1/responses"},
	want:     []string{accessKeyID(2)},
}, {
	name:     "Claude Code, region in the arguments",
	region:   settingsRegion,
	run:      (*trial).claude,
	settings: claudeSettings,
	paths:    []string{"/anthropic/v1/messages"},
	want:     []string{accessKeyID(1)},
}, {
	name:     "Claude Code, region of the profile",
	region:   profileRegion,
	run:      (*trial).claude,
	settings: replace(claudeSettings, " -region us-east-1", ""),
	paths:    []string{"/anthropic/v1/messages"},
	want:     []string{accessKeyID(1)},
}, {
	name:     "Claude Code, new token after 401",
	region:   settingsRegion,
	onFirst:  func(t *trial) string { t.replaceCredentials(); t.revokeOld(); return "" },
	run:      (*trial).claude,
	settings: claudeSettings,
	paths:    []string{"/anthropic/v1/messages"},
	want:     []string{refused, accessKeyID(2)},
}, {
	name:     "Claude Code, new token after CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
	region:   settingsRegion,
	onFirst:  func(t *trial) string { t.replaceCredentials(); return "" },
	run:      (*trial).claudeConversation,
	settings: replace(claudeSettings, "300000", "1"),
	paths:    []string{"/anthropic/v1/messages"},
	want:     []string{accessKeyID(1), accessKeyID(2)},
}, {
	name:     "Claude Code in its Bedrock mode, over the proxy",
	region:   settingsRegion,
	run:      (*trial).claudeOverProxy,
	settings: proxySettings,
	paths:    []string{"/model/us.", "/inference-profiles"}, // us. as in the settings
	want:     []string{accessKeyID(1)},
}}

// codexCall makes Codex try to call a function that it does not have, and make
// another request to say so.
const codexCall = `event: response.created
data: {"type":"response.created","response":{"id":"resp_0"}}

event: response.output_item.done
data: {"type":"response.output_item.done","item":{"type":"function_call","id":"fc_0","call_id":"call_0","name":"none","arguments":"{}"}}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_0","usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "helpers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "helpers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tools, err := install(ctx, dir)
	if err != nil {
		return err
	}
	failures := 0
	for i, s := range scenarios {
		seen, err := s.try(ctx, tools, filepath.Join(dir, fmt.Sprint("home", i)))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		verdict := "ok  "
		if err != nil {
			verdict = "FAIL"
			failures++
		}
		fmt.Printf("%s  %s\n", verdict, s.name)
		for len(seen) > 0 {
			times := 1
			for times < len(seen) && seen[times] == seen[0] {
				times++
			}
			fmt.Print("        ", seen[0])
			if times > 1 {
				fmt.Printf(" (%d times)", times)
			}
			fmt.Println()
			seen = seen[times:]
		}
		if err != nil {
			fmt.Println("      " + strings.ReplaceAll(err.Error(), "\n", "\n      "))
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failures, len(scenarios))
	}
	fmt.Printf("all %d scenarios passed\n", len(scenarios))
	return nil
}

// try runs the scenario in home. It returns what the server saw, and an error
// unless that and the tool's output are as they should be.
func (s scenario) try(ctx context.Context, tools tools, home string) (seen []string, err error) {
	t, err := newTrial(tools, home, s)
	if err != nil {
		return nil, err
	}
	defer t.server.Close()
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	output, err := s.run(t, ctx, s.settings)
	var problems []error
	switch {
	case err != nil:
		problems = append(problems, err)
	case !strings.Contains(output, fakebedrock.Answer):
		problems = append(problems, fmt.Errorf("the tool did not print the model's answer, but:\n%s", lastLines(output)))
	}

	var outcomes []string
	for _, r := range t.bedrock.Requests() {
		line, outcome := fmt.Sprintf("%s %s: ", r.Method, r.Path), r.Token.AccessKeyID
		switch {
		case r.Err == nil:
			line += fmt.Sprintf("accepted, signed with %s for %s", r.Token.AccessKeyID, r.Token.Region)
		case errors.Is(r.Err, verify.ErrCredentials):
			line += "refused, " + r.Err.Error()
			outcome = refused
		default:
			line += "refused, " + r.Err.Error()
			outcome = r.Err.Error()
		}
		seen = append(seen, line)
		outcomes = append(outcomes, outcome)
		if !slices.ContainsFunc(s.paths, func(start string) bool { return strings.HasPrefix(r.Path, start) }) {
			problems = append(problems, fmt.Errorf("a request to %s, want %q", r.Path, s.paths))
		}
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, ","), staleKey) {
				problems = append(problems, fmt.Errorf("%s %s: the header %s has a key of the environment", r.Method, r.Path, name))
			}
		}
	}
	if outcomes = slices.Compact(outcomes); !slices.Equal(outcomes, s.want) {
		problems = append(problems, fmt.Errorf("the server saw %q, want %q", outcomes, s.want))
	}
	return seen, errors.Join(problems...)
}
