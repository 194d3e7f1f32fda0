package main

import (
	"context"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	client := func(call func(context.Context, *bedrockruntime.Client, string, io.Writer) error) clienttest.Client {
		return clienttest.Client{New: func(t *testing.T, s clienttest.Setup) clienttest.Call {
			cfg, err := config.LoadDefaultConfig(t.Context(),
				config.WithBaseEndpoint(s.Endpoint),
				config.WithHTTPClient(s.HTTPClient))
			if err != nil {
				t.Fatal(err)
			}
			client := newClient(cfg, s.Provider)
			return func(ctx context.Context, w io.Writer) error {
				return call(ctx, client, "us.amazon.nova-lite-v1:0", w)
			}
		}}
	}
	clienttest.Run(t, map[string]clienttest.Client{
		"Converse":       client(converse),
		"ConverseStream": client(converseStream),
	})
}

func TestProgram(t *testing.T) {
	const model = "/model/us.amazon.nova-lite-v1:0"
	for name, program := range map[string]clienttest.Program{
		"Converse":       {Path: model + "/converse"},
		"ConverseStream": {Path: model + "/converse-stream", Args: []string{"-stream"}},
	} {
		t.Run(name, program.Run)
	}
}
