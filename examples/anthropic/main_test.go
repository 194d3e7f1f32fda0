package main

import (
	"context"
	"io"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	newClients := map[string]func(*testing.T, clienttest.Setup) (anthropic.MessageService, error){
		"messages": func(t *testing.T, s clienttest.Setup) (anthropic.MessageService, error) {
			return newClient(t.Context(), s.Provider, s.Endpoint+"/anthropic", s.HTTPClient.Transport)
		},
		"invoke": func(t *testing.T, s clienttest.Setup) (anthropic.MessageService, error) {
			return newInvokeClient(t.Context(), s.Provider, s.Endpoint, s.HTTPClient.Transport)
		},
	}
	calls := map[string]func(context.Context, anthropic.MessageService, string, io.Writer) error{
		"create": create, "create stream": createStream,
	}
	clients := map[string]clienttest.Client{}
	for api, newClient := range newClients {
		for name, call := range calls {
			clients[api+" "+name] = clienttest.Client{
				New: func(t *testing.T, s clienttest.Setup) clienttest.Call {
					messages, err := newClient(t, s)
					if err != nil {
						t.Fatal(err)
					}
					return func(ctx context.Context, w io.Writer) error {
						return call(ctx, messages, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", w)
					}
				},
			}
		}
	}
	clienttest.Run(t, clients)
}

func TestProgram(t *testing.T) {
	const mantle = "bedrock-mantle." + clienttest.Region + ".api.aws"
	const model = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
	for name, program := range map[string]clienttest.Program{
		"runtime":        {Base: "/anthropic", Path: "/anthropic/v1/messages"},
		"runtime stream": {Base: "/anthropic", Path: "/anthropic/v1/messages", Args: []string{"-stream"}},
		"mantle":         {Host: mantle, Base: "/anthropic", Path: "/anthropic/v1/messages", Args: []string{"-mantle"}},
		"mantle stream":  {Host: mantle, Base: "/anthropic", Path: "/anthropic/v1/messages", Args: []string{"-mantle", "-stream"}},
		"invoke":         {Path: model + "/invoke", Args: []string{"-invoke"}},
		"invoke stream":  {Path: model + "/invoke-with-response-stream", Args: []string{"-invoke", "-stream"}},
	} {
		t.Run(name, program.Run)
	}
}
