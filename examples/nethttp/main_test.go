package main

import (
	"context"
	"io"
	"testing"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	clienttest.Run(t, map[string]clienttest.Client{
		"converse": {New: func(_ *testing.T, s clienttest.Setup) clienttest.Call {
			return func(ctx context.Context, w io.Writer) error {
				answer, err := converse(ctx, s.HTTPClient, s.Provider, s.Endpoint, "us.amazon.nova-lite-v1:0")
				io.WriteString(w, answer)
				return err
			}
		}},
	})
}

func TestProgram(t *testing.T) {
	clienttest.Program{Path: "/model/us.amazon.nova-lite-v1:0/converse"}.Run(t)
}
