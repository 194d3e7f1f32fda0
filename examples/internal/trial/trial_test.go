//go:build trial && unix

// Package trial runs real tools with the settings that docs/tools.md shows. They
// get their tokens from the command bedrock-token, or send their requests through
// bedrock-proxy. A local server plays Bedrock and verifies the tokens.
//
//	go -C examples test -tags trial -timeout 60m -v ./internal/trial
//
// It needs Node 22.19 or newer and npm, from whose registry it fetches the tools into
// a temporary directory: about 1.5 GB.
package trial

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const page = "../../../docs/tools.md"

// What is replaced in the settings of the page.
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

// A scenario is one use of a tool.
type scenario struct {
	name string
	// region is the one whose tokens the server accepts, if not settingsRegion.
	region string
	// settings has the lines of the page's block under heading, changed by edits: what
	// is replaced, and by what, in turn. They are written to file.
	file, heading string
	edits         []string
	// shown are variables that the page shows.
	shown []string
	// overProxy is whether the tool's requests go through the proxy. Then it is run
	// twice, and the credentials are replaced in between.
	overProxy bool
	// onFirst is called when the first POST comes. If it returns a status, that and
	// the answer are sent, and nobody judges the request.
	onFirst func(*trial) (status int, answer string)
	run     func(t *trial, ctx context.Context) (output string, err error)
	// paths has the beginning of every request's path.
	paths []string
	// want is what becomes of them, but of questions for the list of models: the
	// access key ID of a token that is accepted, or refused. Repetitions count once.
	want []string
}

const refused = "refused"

var (
	bothKeys = []string{accessKeyID(1), accessKeyID(2)}
	firstKey = bothKeys[:1]
)

var scenarios = []scenario{{
	name:    "Codex, region in the arguments",
	file:    codexFile,
	heading: "Codex",
	run:     (*trial).codex,
	paths:   []string{"/v1/responses", "/v1/models"},
	want:    firstKey,
}, {
	name:    "Codex, region of the profile",
	region:  profileRegion,
	file:    codexFile,
	heading: "Codex",
	edits:   []string{`args = ["-region", "us-east-1"]`, ""},
	run:     (*trial).codex,
	paths:   []string{"/v1/responses", "/v1/models"},
	want:    firstKey,
}, {
	name:    "Codex, new token after 401",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); t.revokeOld(); return 0, "" },
	file:    codexFile,
	heading: "Codex",
	run:     (*trial).codex,
	paths:   []string{"/v1/responses", "/v1/models"},
	want:    []string{refused, accessKeyID(2)},
}, {
	name:    "Codex, new token after refresh_interval_ms",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); return http.StatusOK, codexCall },
	file:    codexFile,
	heading: "Codex",
	edits:   []string{"300000", "1"},
	run:     (*trial).codex,
	paths:   []string{"/v1/responses", "/v1/models"},
	want:    []string{accessKeyID(2)},
}, {
	name:    "Claude Code, region in the arguments",
	file:    claudeFile,
	heading: "Claude Code",
	run:     (*trial).claude,
	paths:   []string{"/anthropic/v1/messages"},
	want:    firstKey,
}, {
	name:    "Claude Code, region of the profile",
	region:  profileRegion,
	file:    claudeFile,
	heading: "Claude Code",
	edits:   []string{" -region us-east-1", ""},
	run:     (*trial).claude,
	paths:   []string{"/anthropic/v1/messages"},
	want:    firstKey,
}, {
	name:    "Claude Code, new token after 401",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); t.revokeOld(); return 0, "" },
	file:    claudeFile,
	heading: "Claude Code",
	run:     (*trial).claude,
	paths:   []string{"/anthropic/v1/messages"},
	want:    []string{refused, accessKeyID(2)},
}, {
	name:    "Claude Code, new token after 403",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); return http.StatusForbidden, forbidden },
	file:    claudeFile,
	heading: "Claude Code",
	run:     (*trial).claude,
	paths:   []string{"/anthropic/v1/messages"},
	want:    []string{accessKeyID(2)},
}, {
	name:    "Claude Code, new token after CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); return 0, "" },
	file:    claudeFile,
	heading: "Claude Code",
	edits:   []string{"300000", "1"},
	run:     (*trial).claudeConversation,
	paths:   []string{"/anthropic/v1/messages"},
	want:    bothKeys,
}, {
	name:    "pi, new token for each request",
	onFirst: func(t *trial) (int, string) { t.replaceCredentials(); return 0, "" },
	file:    piFile,
	heading: "pi",
	run:     (*trial).pi,
	paths:   []string{"/v1/chat/completions"},
	want:    bothKeys,
}, {
	name:      "Claude Code over the proxy",
	file:      claudeFile,
	heading:   "Claude Code",
	edits:     []string{`"apiKeyHelper": "bedrock-token -region us-east-1",`, "", `"ANTHROPIC_BASE_URL": "https://bedrock-mantle.us-east-1.api.aws/anthropic",`, ""},
	shown:     []string{"ANTHROPIC_BASE_URL=http://127.0.0.1:8484", "ANTHROPIC_AUTH_TOKEN=unused"},
	overProxy: true,
	run:       (*trial).claude,
	paths:     []string{"/anthropic/v1/messages"},
	want:      bothKeys,
}, {
	name:      "Claude Code in its Bedrock mode over the proxy",
	file:      claudeFile,
	heading:   "Claude Code in its Bedrock mode",
	overProxy: true,
	run:       (*trial).claude,
	paths:     []string{"/model/us.", "/inference-profiles"}, // us. as in the settings
	want:      bothKeys,
}, {
	name:      "Claude Code in its Mantle mode over the proxy",
	shown:     []string{"CLAUDE_CODE_USE_MANTLE=1", "CLAUDE_CODE_SKIP_MANTLE_AUTH=1", "AWS_REGION=us-east-1", "ANTHROPIC_BEDROCK_MANTLE_BASE_URL=http://127.0.0.1:8484/mantle/anthropic"},
	overProxy: true,
	run:       (*trial).claude,
	paths:     []string{"/anthropic/v1/messages"},
	want:      bothKeys,
}, {
	name:      "Codex over the proxy",
	file:      codexFile,
	heading:   "Codex",
	edits:     []string{mantleURL, proxyURL, codexAuth, ""},
	overProxy: true,
	run:       (*trial).codex,
	paths:     []string{"/v1/responses", "/v1/models"},
	want:      bothKeys,
}, {
	name:      "opencode over the proxy",
	file:      "work/opencode.json",
	heading:   "opencode",
	shown:     []string{"AWS_BEARER_TOKEN_BEDROCK=unused"},
	overProxy: true,
	run:       (*trial).opencode,
	paths:     []string{"/model/"},
	want:      bothKeys,
}, {
	name:      "pi over the proxy",
	file:      piFile,
	heading:   "pi",
	edits:     []string{mantleURL, proxyURL, "!bedrock-token -region us-east-1", "unused"},
	overProxy: true,
	run:       (*trial).pi,
	paths:     []string{"/v1/chat/completions"},
	want:      bothKeys,
}, {
	name:      "@aws-sdk/client-bedrock-runtime over the proxy",
	shown:     []string{"AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://127.0.0.1:8484", "AWS_BEARER_TOKEN_BEDROCK=unused"},
	overProxy: true,
	run:       (*trial).awsSDK,
	paths:     []string{"/model/openai.gpt-oss-120b-1:0/converse"},
	want:      bothKeys,
}}

// codexAuth is how Codex is told to run the command.
const codexAuth = `[model_providers.bedrock.auth]
command = "bedrock-token"
args = ["-region", "us-east-1"]
timeout_ms = 60000
refresh_interval_ms = 300000
`

// codexCall makes Codex try to call a function that it does not have, and make
// another request to say so.
const codexCall = `event: response.created
data: {"type":"response.created","response":{"id":"resp_0"}}

event: response.output_item.done
data: {"type":"response.output_item.done","item":{"type":"function_call","id":"fc_0","call_id":"call_0","name":"none","arguments":"{}"}}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_0","usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}

`

// forbidden is how bedrock-runtime refuses a token.
const forbidden = `{"message":"Authentication failed: Please make sure your API Key is valid."}`

func TestTools(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	tools := install(t)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.try(t, tools, string(text)) })
	}
}

// try fails the test unless what the server saw and the tool's output are as they
// should be.
func (s scenario) try(t *testing.T, tools tools, page string) {
	trial := newTrial(t, tools, s, page)
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	output, err := s.run(trial, ctx)
	if s.overProxy && err == nil && strings.Contains(output, fakebedrock.Answer) {
		trial.replaceCredentials()
		time.Sleep(renewalAfter)
		output, err = s.run(trial, ctx)
	}
	if err != nil {
		t.Error(err)
	} else if !strings.Contains(output, fakebedrock.Answer) {
		t.Errorf("the tool did not print the model's answer, but:\n%s", lastLines(output))
	}

	var seen, outcomes []string
	for _, r := range trial.bedrock.Requests() {
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
		if r.Path != "/v1/models" {
			outcomes = append(outcomes, outcome)
		}
		if !slices.ContainsFunc(s.paths, func(start string) bool { return strings.HasPrefix(r.Path, start) }) {
			t.Errorf("a request to %s, want %q", r.Path, s.paths)
		}
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, ","), staleKey) {
				t.Errorf("%s %s: the header %s has a key of the environment", r.Method, r.Path, name)
			}
		}
	}
	if outcomes = slices.Compact(outcomes); !slices.Equal(outcomes, s.want) {
		t.Errorf("the server saw %q, want %q", outcomes, s.want)
	}
	for _, line := range slices.Compact(seen) {
		t.Log(line)
	}
}

// block returns the first block of the page under the heading.
func block(t *testing.T, page, heading string) string {
	_, rest, ok := strings.Cut(page, "\n### "+heading+"\n")
	section, _, _ := strings.Cut(rest, "\n### ")
	_, section, hasBlock := strings.Cut(section, "\n```")
	_, section, _ = strings.Cut(section, "\n") // the language
	text, _, closed := strings.Cut(section, "\n```\n")
	if !ok || !hasBlock || !closed {
		t.Fatalf("the page has no block under %q", heading)
	}
	return text + "\n"
}

// replace fails the test if text does not have old: then the settings do not fit.
func replace(t *testing.T, text, old, new string) string {
	if !strings.Contains(text, old) {
		t.Fatalf("no %q in:\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}
