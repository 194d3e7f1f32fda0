package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	clienttest.Run(t, map[string]clienttest.Client{
		"converse": {New: func(_ *testing.T, s clienttest.Setup) clienttest.Call {
			client := newClient(s.Provider, s.HTTPClient.Transport)
			return func(ctx context.Context, w io.Writer) error {
				answer, err := converse(ctx, client, s.Endpoint, "us.amazon.nova-lite-v1:0")
				io.WriteString(w, answer)
				return err
			}
		}},
	})
}

func TestProgram(t *testing.T) {
	clienttest.Program{Path: "/model/us.amazon.nova-lite-v1:0/converse"}.Run(t)
}

func newProvider(t *testing.T, source aws.CredentialsProvider) *bedrocktoken.Provider {
	t.Helper()
	p, err := bedrocktoken.NewProvider(t.Context(),
		bedrocktoken.WithRegion(clienttest.Region), bedrocktoken.WithCredentialsProvider(source))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A token says when it expires, for whoever keeps it all the same.
func TestExpiry(t *testing.T) {
	end := time.Now().Add(time.Hour).UTC()
	p := newProvider(t, credentials.StaticCredentialsProvider{Value: aws.Credentials{
		AccessKeyID: "ASIAKNOWN", SecretAccessKey: "secret", SessionToken: "session", CanExpire: true, Expires: end,
	}})
	token, err := tokenSource{p}.Token()
	if err != nil {
		t.Fatal(err)
	}
	if !token.Expiry.Equal(end) {
		t.Errorf("expiry %v, want the credentials', %v", token.Expiry, end)
	}
}

// A source that hangs does not keep a caller for ever, context or not.
func TestHangingSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		p := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			<-release
			return aws.Credentials{}, errors.New("released")
		}))
		began := time.Now()
		_, err := tokenSource{p}.Token()
		if waited := time.Since(began); waited != 10*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v after %v", err, waited)
		}
	})
}

// What the program's comment says of the two transports.
func TestOtherAddress(t *testing.T) {
	p := newProvider(t, credentials.NewStaticCredentialsProvider("AKIAKNOWN", "secret", ""))
	sent := 0
	base := awstest.RoundTripFunc(func(request *http.Request) (*http.Response, error) {
		if request.Header.Get("Authorization") != "" {
			sent++
		}
		return httptest.NewRecorder().Result(), nil
	})
	const address = "https://bedrock-runtime.us-west-2.amazonaws.com.example.com"
	if _, err := newClient(p, base).Get(address); err != nil || sent != 1 {
		t.Errorf("oauth2.Transport sent %d tokens, error %v", sent, err)
	}
	client := &http.Client{Transport: p.Transport(base)}
	if _, err := client.Get(address); !errors.Is(err, bedrocktoken.ErrEndpoint) || sent != 1 {
		t.Errorf("Provider.Transport sent %d tokens, error %v", sent-1, err)
	}
}
