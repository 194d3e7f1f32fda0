package main

import (
	"cmp"
	"context"
	"io"
	"testing"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	newClients := map[string]func(*testing.T, clienttest.Setup) openai.Client{
		"bedrock": func(t *testing.T, s clienttest.Setup) openai.Client {
			client, err := newBedrockClient(t.Context(), s.Provider, s.Endpoint+"/openai/v1",
				option.WithHTTPClient(s.HTTPClient))
			if err != nil {
				t.Fatal(err)
			}
			return client
		},
		"generic": func(_ *testing.T, s clienttest.Setup) openai.Client {
			return newGenericClient(s.Provider, s.Endpoint+"/v1", s.HTTPClient.Transport)
		},
	}
	calls := map[string]func(context.Context, openai.Client, string, io.Writer) error{
		"chat": chat, "chat stream": chatStream, "responses": respond, "responses stream": respondStream,
	}
	clients := map[string]clienttest.Client{}
	for clientName, newClient := range newClients {
		for callName, call := range calls {
			clients[clientName+" "+callName] = clienttest.Client{
				New: func(t *testing.T, s clienttest.Setup) clienttest.Call {
					client := newClient(t, s)
					return func(ctx context.Context, w io.Writer) error {
						return call(ctx, client, "openai.gpt-oss-20b-1:0", w)
					}
				},
			}
		}
	}
	clienttest.Run(t, clients)
}

func TestProgram(t *testing.T) {
	const mantle = "bedrock-mantle." + clienttest.Region + ".api.aws"
	const base = "/openai/v1"
	for name, program := range map[string]clienttest.Program{
		"chat":             {Path: base + "/chat/completions"},
		"chat stream":      {Path: base + "/chat/completions", Args: []string{"-stream"}},
		"responses":        {Path: base + "/responses", Args: []string{"-responses"}},
		"responses stream": {Path: base + "/responses", Args: []string{"-responses", "-stream"}},
		"generic":          {Path: base + "/chat/completions", Args: []string{"-generic"}},
		"mantle":           {Path: "/v1/responses", Args: []string{"-mantle", "-responses"}, Host: mantle, Base: "/v1"},
		"mantle GPT-5": {Path: base + "/responses", Host: mantle,
			Args: []string{"-mantle", "-responses", "-model", "openai.gpt-5.4"}},
	} {
		program.Base = cmp.Or(program.Base, base)
		t.Run(name, program.Run)
	}
}

func TestMantlePathDependsOnModel(t *testing.T) {
	for model, want := range map[string]string{
		"openai.gpt-oss-20b":   "/v1",
		"openai.gpt-oss-120b":  "/v1",
		"mistral.ministral-3b": "/v1",
		"google.gemma-3-4b-it": "/v1",
		"openai.gpt-5.4":       "/openai/v1",
		"openai.gpt-6":         "/openai/v1",
		"google.gemma-4-31b":   "/openai/v1",
		"xai.grok-4.3":         "/openai/v1",
	} {
		want = "https://bedrock-mantle.us-east-1.api.aws" + want
		if got := endpointFor("us-east-1", model, true); got != want {
			t.Errorf("%s: %s, want %s", model, got, want)
		}
	}
}
