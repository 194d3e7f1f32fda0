package main

import (
	"context"
	"io"
	"testing"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/sashabaranov/go-openai"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	client := func(call func(context.Context, *openai.Client, string, io.Writer) error) clienttest.Client {
		return clienttest.Client{New: func(_ *testing.T, s clienttest.Setup) clienttest.Call {
			client := newClient(s.Provider, s.Endpoint+"/openai/v1", s.HTTPClient.Transport)
			return func(ctx context.Context, w io.Writer) error {
				return call(ctx, client, "openai.gpt-oss-20b-1:0", w)
			}
		}}
	}
	clienttest.Run(t, map[string]clienttest.Client{
		"chat":        client(chat),
		"chat stream": client(chatStream),
	})
}

func TestProgram(t *testing.T) {
	const base = "/openai/v1"
	for name, args := range map[string][]string{"chat": nil, "chat stream": {"-stream"}} {
		t.Run(name, clienttest.Program{Base: base, Path: base + "/chat/completions", Args: args}.Run)
	}
}
