package examples

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicbedrock "github.com/anthropics/anthropic-sdk-go/bedrock"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/openai/openai-go/v3"
	openaibedrock "github.com/openai/openai-go/v3/bedrock"
	"github.com/openai/openai-go/v3/option"
	goopenai "github.com/sashabaranov/go-openai"
	"golang.org/x/oauth2"
)

// These tests show what docs/services.md says about clients: how often they try again
// when an error will not go away, how to stop them, and which want a key. The code of
// the page stands here too.

var giveUp = func(request *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	response, err := next(request)
	if errors.Is(err, bedrocktoken.ErrCredentials) ||
		errors.Is(err, bedrocktoken.ErrEndpoint) ||
		errors.Is(err, bedrocktoken.ErrRegion) {
		// Both clients read this header even when an error comes with the response.
		response = &http.Response{Header: http.Header{"X-Should-Retry": {"false"}}, Body: http.NoBody}
	}
	return response, err
}

type tokenSource struct{ provider *bedrocktoken.Provider }

func (s tokenSource) Token() (*oauth2.Token, error) {
	token, err := s.provider.RetrieveBearerToken(context.Background())
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Value, Expiry: token.Expires}, nil
}

var _ oauth2.TokenSource = tokenSource{}

type lazySource struct {
	mu   sync.Mutex
	made *bedrocktoken.Provider
}

func (s *lazySource) provider() (_ *bedrocktoken.Provider, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil { // also after an error: the next request tries again
		s.made, err = bedrocktoken.NewProvider(context.Background())
	}
	return s.made, err
}

func (s *lazySource) Token(ctx context.Context) (string, error) {
	provider, err := s.provider()
	if err != nil {
		return "", err
	}
	return provider.Token(ctx)
}

// What a client is told about trying again.
type retries int

const (
	byDefault retries = iota
	stopped           // with giveUp
	none
)

func (r retries) openaiOptions() []option.RequestOption {
	return map[retries][]option.RequestOption{
		stopped: {option.WithMiddleware(giveUp)},
		none:    {option.WithMaxRetries(0)},
	}[r]
}

func (r retries) anthropicOptions() []anthropicoption.RequestOption {
	return map[retries][]anthropicoption.RequestOption{
		stopped: {anthropicoption.WithMiddleware(giveUp)},
		none:    {anthropicoption.WithMaxRetries(0)},
	}[r]
}

// Each makes one call to baseURL.
var clients = map[string]func(ctx context.Context, provider *countingProvider, baseURL string, httpClient *http.Client, r retries) error{
	"openai-go": func(ctx context.Context, _ *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		client := openai.NewClient(append(r.openaiOptions(), option.WithBaseURL(baseURL), option.WithHTTPClient(httpClient))...)
		_, err := client.Chat.Completions.New(ctx, chatParams)
		return err
	},
	"openai-go, streaming": func(ctx context.Context, _ *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		client := openai.NewClient(append(r.openaiOptions(), option.WithBaseURL(baseURL), option.WithHTTPClient(httpClient))...)
		stream := client.Chat.Completions.NewStreaming(ctx, chatParams)
		for stream.Next() {
		}
		return stream.Err()
	},
	"openai-go/bedrock": func(ctx context.Context, provider *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		client, err := openaibedrock.NewClient(ctx, openaibedrock.Config{
			AWSRegion: provider.Region(), BaseURL: baseURL, BedrockTokenProvider: provider.Token,
		}, append(r.openaiOptions(), option.WithHTTPClient(httpClient))...)
		if err != nil {
			return err
		}
		_, err = client.Chat.Completions.New(ctx, chatParams)
		return err
	},
	"anthropic-sdk-go, runtime": func(ctx context.Context, provider *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		cfg := aws.Config{Region: provider.Region(), BearerAuthTokenProvider: provider, AuthSchemePreference: []string{"httpBearerAuth"}}
		client := anthropic.NewClient(append(r.anthropicOptions(), // before WithConfig, which asks for the token
			anthropicbedrock.WithConfig(cfg), anthropicoption.WithBaseURL(baseURL), anthropicoption.WithHTTPClient(httpClient))...)
		_, err := client.Messages.New(ctx, messageParams)
		return err
	},
	"anthropic-sdk-go, Mantle": func(ctx context.Context, _ *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		client, err := anthropicbedrock.NewMantleClient(ctx, anthropicbedrock.MantleClientConfig{BaseURL: baseURL, SkipAuth: true},
			append(r.anthropicOptions(), anthropicoption.WithHTTPClient(httpClient))...)
		if err != nil {
			return err
		}
		_, err = client.Messages.New(ctx, messageParams)
		return err
	},
	"go-openai": func(ctx context.Context, _ *countingProvider, baseURL string, httpClient *http.Client, _ retries) error {
		cfg := goopenai.DefaultConfig("")
		cfg.BaseURL = baseURL
		cfg.HTTPClient = httpClient
		_, err := goopenai.NewClientWithConfig(cfg).CreateChatCompletion(ctx, goopenai.ChatCompletionRequest{Model: "model"})
		return err
	},
	"bedrockruntime": func(ctx context.Context, provider *countingProvider, baseURL string, httpClient *http.Client, r retries) error {
		client := bedrockruntime.New(bedrockruntime.Options{
			Region: provider.Region(), BaseEndpoint: &baseURL, HTTPClient: httpClient,
			BearerAuthTokenProvider: provider, AuthSchemePreference: []string{"httpBearerAuth"},
		}, func(o *bedrockruntime.Options) {
			if r == none {
				o.Retryer = aws.NopRetryer{}
			}
		})
		_, err := client.Converse(ctx, &bedrockruntime.ConverseInput{ModelId: aws.String("model")})
		return err
	},
}

var (
	chatParams = openai.ChatCompletionNewParams{
		Model: "model", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
	}
	messageParams = anthropic.MessageNewParams{
		Model: "model", MaxTokens: 1,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))},
	}
)

// A countingProvider counts how often a client asks it for a token by itself.
type countingProvider struct {
	*bedrocktoken.Provider
	asked int
}

func (p *countingProvider) Token(ctx context.Context) (string, error) {
	p.asked++
	return p.Provider.Token(ctx)
}

func (p *countingProvider) RetrieveBearerToken(ctx context.Context) (bearer.Token, error) {
	p.asked++
	return p.Provider.RetrieveBearerToken(ctx)
}

func newProvider(t *testing.T, source aws.CredentialsProviderFunc) *countingProvider {
	t.Helper()
	provider, err := bedrocktoken.NewProvider(t.Context(),
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(source))
	if err != nil {
		t.Fatal(err)
	}
	return &countingProvider{Provider: provider}
}

func TestRetries(t *testing.T) {
	clienttest.Isolate(t)
	signedOut := func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("signed out") }
	type attempts = map[retries]int
	often, once := attempts{byDefault: 3, stopped: 1, none: 1}, attempts{byDefault: 1}
	for _, test := range []struct {
		client   string
		want     error
		attempts attempts
	}{
		{"openai-go", bedrocktoken.ErrCredentials, often},
		{"openai-go", bedrocktoken.ErrEndpoint, often},
		{"openai-go", bedrocktoken.ErrRegion, often},
		{"openai-go, streaming", bedrocktoken.ErrCredentials, often},
		{"openai-go/bedrock", bedrocktoken.ErrCredentials, often},
		{"openai-go/bedrock", bedrocktoken.ErrEndpoint, often},
		{"anthropic-sdk-go, runtime", bedrocktoken.ErrCredentials, often},
		{"anthropic-sdk-go, runtime", bedrocktoken.ErrEndpoint, often},
		{"anthropic-sdk-go, Mantle", bedrocktoken.ErrCredentials, often},
		{"anthropic-sdk-go, Mantle", bedrocktoken.ErrEndpoint, often},
		{"anthropic-sdk-go, Mantle", bedrocktoken.ErrRegion, often},
		{"go-openai", bedrocktoken.ErrCredentials, once},
		{"go-openai", bedrocktoken.ErrEndpoint, once},
		{"bedrockruntime", bedrocktoken.ErrCredentials, once},
		{"bedrockruntime", bedrocktoken.ErrEndpoint, attempts{byDefault: 3, none: 1}}, // with the transport as well
	} {
		for r, want := range test.attempts {
			t.Run(test.client, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // for the pauses between attempts
					source, baseURL := signedIn, "https://api.openai.com"
					switch test.want {
					case bedrocktoken.ErrCredentials:
						source, baseURL = signedOut, "https://bedrock-mantle.us-east-1.api.aws"
					case bedrocktoken.ErrRegion:
						baseURL = "https://bedrock-mantle.eu-west-1.api.aws"
					}
					made, provider := 0, newProvider(t, source)
					transport := provider.Transport(awstest.RoundTripFunc(func(*http.Request) (*http.Response, error) {
						t.Error("a request was sent")
						return nil, io.EOF
					}))
					httpClient := &http.Client{Transport: awstest.RoundTripFunc(func(request *http.Request) (*http.Response, error) {
						made++
						return transport.RoundTrip(request)
					})}
					err := clients[test.client](t.Context(), provider, baseURL, httpClient, r)
					if !errors.Is(err, test.want) {
						t.Errorf("error %v, want %v", err, test.want)
					}
					// Some ask for the token before they go to the transport.
					if got := max(provider.asked, made); got != want {
						t.Errorf("%v, retries %d: %d attempts, want %d", test.want, r, got, want)
					}
				})
			})
		}
	}
}

// Other errors are for the client to judge.
func TestGiveUp(t *testing.T) {
	response, err := giveUp(nil, func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	if response != nil || err != io.EOF {
		t.Errorf("response %v, error %v", response, err)
	}
}

func TestTokenSource(t *testing.T) {
	var authority awstest.Authority
	provider := newProvider(t, func(context.Context) (aws.Credentials, error) { return authority.Issue(time.Hour), nil })
	token, err := tokenSource{provider.Provider}.Token()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Verify(token.AccessToken, "us-east-1"); err != nil || !token.Expiry.Equal(authority.Newest().Expires) {
		t.Errorf("expiry %v, error %v", token.Expiry, err)
	}
	signedOut := newProvider(t, func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, io.EOF })
	if token, err := (tokenSource{signedOut.Provider}).Token(); token != nil || !errors.Is(err, io.EOF) {
		t.Errorf("token %v, error %v", token, err)
	}
}

// The first error is not kept.
func TestLazySource(t *testing.T) {
	clienttest.Isolate(t)
	var source lazySource
	if token, err := source.Token(t.Context()); token != "" || !errors.Is(err, bedrocktoken.ErrRegion) {
		t.Errorf("without a region: token %q, error %v", token, err)
	}
	var authority awstest.Authority
	creds := authority.Issue(time.Hour)
	awstest.Set(t, map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": creds.SecretAccessKey, "AWS_SESSION_TOKEN": creds.SessionToken,
	})
	token, err := source.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Verify(token, "us-east-1"); err != nil {
		t.Error(err)
	}
	if first := source.made; first == nil {
		t.Error("the Provider is not kept")
	} else if source.Token(t.Context()); source.made != first {
		t.Error("another Provider was made")
	}
}

func signedIn(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIAKNOWN", SecretAccessKey: "secret"}, nil
}

// Of the clients above none wants a key: there is none in their environment.
func TestKey(t *testing.T) {
	clienttest.Isolate(t)
	provider := newProvider(t, signedIn)
	sent := 0
	base := awstest.RoundTripFunc(func(request *http.Request) (*http.Response, error) {
		sent++
		if request.Header.Get("X-Api-Key") != "" {
			t.Error("the key was sent")
		}
		recorder := httptest.NewRecorder()
		recorder.Header().Set("Content-Type", "application/json")
		io.WriteString(recorder, "{}")
		return recorder.Result(), nil
	})
	baseURL := "https://bedrock-mantle.us-east-1.api.aws/anthropic"
	newClient := func(opts ...anthropicoption.RequestOption) anthropic.Client {
		return anthropic.NewClient(append(opts,
			anthropicoption.WithBaseURL(baseURL), anthropicoption.WithHTTPClient(&http.Client{Transport: provider.Transport(base)}))...)
	}
	client := newClient(anthropicoption.WithMaxRetries(0))
	if _, err := client.Messages.New(t.Context(), messageParams); err == nil || sent != 0 {
		t.Errorf("without a key: error %v, %d requests", err, sent)
	}
	client = newClient(anthropicoption.WithAPIKey("unused"))
	if _, err := client.Messages.New(t.Context(), messageParams); err != nil || sent != 1 {
		t.Errorf("with a key: error %v, %d requests", err, sent)
	}
}
