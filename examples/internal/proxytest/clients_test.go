// Package proxytest has the Go clients talk to the command bedrock-proxy, whose
// module has none of them.
package proxytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicbedrock "github.com/anthropics/anthropic-sdk-go/bedrock"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

const (
	accessKeyID = "ASIAPROXY"
	secretKey   = "secret/of+the+proxy"
	session     = "session/of+the+proxy=="
	proxyKey    = "key-of-the-proxy"
	callersOwn  = "callers-own"
)

const model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"

// A call asks a model, over the proxy at url and with key for the client's key,
// and returns its answer.
type call struct {
	client  string
	arrives string // the path at Bedrock
	ask     func(ctx context.Context, url, key string) (string, error)
}

var calls = []call{
	{"openai-go", "/v1/chat/completions", chat("/v1")},
	{"openai-go stream", "/v1/chat/completions", chatStream("/v1")},
	{"openai-go", "/v1/chat/completions", chat("/mantle/v1")},
	{"openai-go", "/openai/v1/chat/completions", chat("/openai/v1")},
	{"openai-go stream", "/openai/v1/chat/completions", chatStream("/openai/v1")},
	{"openai-go stream", "/openai/v1/chat/completions", chatStream("/runtime/openai/v1")},
	{"openai-go", "/v1/responses", respond},
	{"openai-go stream", "/v1/responses", respondStream},
	{"anthropic-sdk-go", "/anthropic/v1/messages", create(newAnthropic("/anthropic"))},
	{"anthropic-sdk-go stream", "/anthropic/v1/messages", createStream(newAnthropic("/anthropic"))},
	{"anthropic-sdk-go", "/anthropic/v1/messages", create(newAnthropic(""))},
	{"anthropic-sdk-go stream", "/anthropic/v1/messages", createStream(newAnthropic("/runtime/anthropic"))},
	{"anthropic-sdk-go Mantle", "/anthropic/v1/messages", create(newAnthropicMantle)},
	{"anthropic-sdk-go Mantle stream", "/anthropic/v1/messages", createStream(newAnthropicMantle)},
	{"anthropic-sdk-go Bedrock", "/model/" + model + "/invoke", create(newAnthropicBedrock)},
	{"anthropic-sdk-go Bedrock stream", "/model/" + model + "/invoke-with-response-stream", createStream(newAnthropicBedrock)},
	// It sends no bearer token over plain HTTP, so it signs with keys that are nobody's.
	{"AWS SDK", "/model/" + model + "/converse", converse("")},
	{"AWS SDK", "/model/" + model + "/converse", converse("/runtime")},
}

// build builds the command. It comes before Isolate, which hides the cache.
func build(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "bedrock-proxy.exe")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "github.com/bedrocktoken/bedrocktoken/cmd/bedrock-proxy").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return file
}

// start runs the command in front of the server at endpoint, and returns its URL.
// Callers need the key, unless it is empty.
func start(t *testing.T, file, endpoint, key string) (url string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), file, "-region", clienttest.Region, "-listen", "127.0.0.1:0", "-endpoint", endpoint)
	command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+accessKeyID, "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_SESSION_TOKEN="+session)
	if key != "" {
		command.Env = append(command.Env, "BEDROCK_PROXY_KEY="+key)
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	output := bufio.NewReader(stderr)
	first, err := output.ReadString('\n')
	if err != nil {
		t.Fatalf("it says %q, %v", first, err)
	}
	go io.Copy(io.Discard, output) // so that its log does not wait for a reader
	return regexp.MustCompile(`http://[0-9.:]+`).FindString(first)
}

func TestClients(t *testing.T) {
	file := build(t)
	clienttest.Isolate(t)
	t.Setenv("BEDROCK_PROXY_KEY", "") // to have it restored
	os.Unsetenv("BEDROCK_PROXY_KEY")
	bedrock := fakebedrock.NewHandler(verify.Service{Region: clienttest.Region, Secret: func(id, token string) (string, error) {
		if id != accessKeyID || token != session {
			return "", errors.New("other credentials")
		}
		return secretKey, nil
	}})
	server := httptest.NewServer(bedrock)
	defer server.Close()
	for _, key := range []string{"", proxyKey} {
		url := start(t, file, server.URL, key)
		for _, call := range calls {
			given := callersOwn
			if key != "" {
				given = key
			}
			if key != "" && strings.HasPrefix(call.client, "AWS") {
				continue // it has no place for the key
			}
			t.Run(fmt.Sprintf("%s %s key %q", call.client, call.arrives, key), func(t *testing.T) {
				before := len(bedrock.Requests())
				answer, err := call.ask(t.Context(), url, given)
				if err != nil || answer != fakebedrock.Answer {
					t.Errorf("answer %q, %v", answer, err)
				}
				requests := bedrock.Requests()[before:]
				if len(requests) == 0 {
					t.Error("no request arrived")
				}
				for _, request := range requests {
					if request.Path != call.arrives || request.Err != nil || request.Token.AccessKeyID != accessKeyID {
						t.Errorf("%s %s: %v", request.Method, request.Path, request.Err)
					}
					for name, values := range request.Header {
						if text := strings.Join(values, ", "); strings.Contains(text, given) || strings.HasPrefix(name, "X-Amz-") {
							t.Errorf("%s: %s has arrived", name, text)
						}
					}
				}
			})
		}
	}
}

// The message of an error of the proxy is where each client looks for it.
func TestClientsShowErrors(t *testing.T) {
	file := build(t)
	clienttest.Isolate(t)
	bedrock := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer bedrock.Close()
	url := start(t, file, bedrock.URL, proxyKey)
	const want = "Send the key of BEDROCK_PROXY_KEY"
	for _, call := range calls {
		t.Run(call.client+" "+call.arrives, func(t *testing.T) {
			_, err := call.ask(t.Context(), url, "wrong")
			var (
				openAI    *openai.Error
				anthropic *anthropic.Error
				aws       smithy.APIError
				message   string
			)
			switch {
			case errors.As(err, &openAI):
				message = openAI.Message
			case errors.As(err, &anthropic):
				if anthropic.Type() != "authentication_error" {
					t.Errorf("type %q", anthropic.Type())
				}
				message = anthropic.Error()
			case errors.As(err, &aws):
				message = aws.ErrorMessage()
			}
			if !strings.Contains(message, want) {
				t.Errorf("%q: %v", message, err)
			}
		})
	}
}

func newOpenAI(url, key string) openai.Client {
	return openai.NewClient(openaioption.WithBaseURL(url), openaioption.WithAPIKey(key))
}

func chat(base string) func(ctx context.Context, url, key string) (string, error) {
	return func(ctx context.Context, url, key string) (string, error) {
		client := newOpenAI(url+base, key)
		completion, err := client.Chat.Completions.New(ctx, chatParams)
		if err != nil || len(completion.Choices) == 0 {
			return "", err
		}
		return completion.Choices[0].Message.Content, nil
	}
}

func chatStream(base string) func(ctx context.Context, url, key string) (string, error) {
	return func(ctx context.Context, url, key string) (answer string, err error) {
		client := newOpenAI(url+base, key)
		stream := client.Chat.Completions.NewStreaming(ctx, chatParams)
		defer stream.Close()
		for stream.Next() {
			for _, choice := range stream.Current().Choices {
				answer += choice.Delta.Content
			}
		}
		return answer, stream.Err()
	}
}

var chatParams = openai.ChatCompletionNewParams{
	Model:    model,
	Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
}

func respond(ctx context.Context, url, key string) (string, error) {
	client := newOpenAI(url+"/v1", key)
	response, err := client.Responses.New(ctx, responseParams)
	if err != nil {
		return "", err
	}
	return response.OutputText(), nil
}

func respondStream(ctx context.Context, url, key string) (answer string, err error) {
	client := newOpenAI(url+"/v1", key)
	stream := client.Responses.NewStreaming(ctx, responseParams)
	defer stream.Close()
	for stream.Next() {
		if event := stream.Current(); event.Type == "response.output_text.delta" {
			answer += event.Delta
		}
	}
	return answer, stream.Err()
}

var responseParams = responses.ResponseNewParams{
	Model: model,
	Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")},
}

func newAnthropic(base string) newMessages {
	return func(_ context.Context, url, key string) (anthropic.MessageService, error) {
		client := anthropic.NewClient(anthropicoption.WithBaseURL(url+base), anthropicoption.WithAPIKey(key))
		return client.Messages, nil
	}
}

func newAnthropicMantle(ctx context.Context, url, key string) (anthropic.MessageService, error) {
	client, err := anthropicbedrock.NewMantleClient(ctx, anthropicbedrock.MantleClientConfig{BaseURL: url + "/anthropic", APIKey: key})
	if err != nil {
		return anthropic.MessageService{}, err
	}
	return client.Messages, nil
}

func newAnthropicBedrock(_ context.Context, url, key string) (anthropic.MessageService, error) {
	cfg := aws.Config{Region: clienttest.Region, BearerAuthTokenProvider: anthropicbedrock.NewStaticBearerTokenProvider(key)}
	client := anthropic.NewClient(anthropicbedrock.WithConfig(cfg), anthropicoption.WithBaseURL(url))
	return client.Messages, nil
}

type newMessages func(ctx context.Context, url, key string) (anthropic.MessageService, error)

func create(newMessages newMessages) func(ctx context.Context, url, key string) (string, error) {
	return func(ctx context.Context, url, key string) (string, error) {
		messages, err := newMessages(ctx, url, key)
		if err != nil {
			return "", err
		}
		message, err := messages.New(ctx, messageParams)
		if err != nil || len(message.Content) == 0 {
			return "", err
		}
		return message.Content[0].Text, nil
	}
}

func createStream(newMessages newMessages) func(ctx context.Context, url, key string) (string, error) {
	return func(ctx context.Context, url, key string) (answer string, err error) {
		messages, err := newMessages(ctx, url, key)
		if err != nil {
			return "", err
		}
		stream := messages.NewStreaming(ctx, messageParams)
		defer stream.Close()
		for stream.Next() {
			if event := stream.Current(); event.Type == "content_block_delta" {
				answer += event.Delta.Text
			}
		}
		return answer, stream.Err()
	}
}

var messageParams = anthropic.MessageNewParams{
	Model:     model,
	MaxTokens: 256,
	Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))},
}

func newAWS(url, key string) *bedrockruntime.Client {
	return bedrockruntime.New(bedrockruntime.Options{
		BaseEndpoint: &url,
		Region:       clienttest.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(key, key, key),
	})
}

func converse(base string) func(ctx context.Context, url, key string) (string, error) {
	return func(ctx context.Context, url, key string) (string, error) {
		output, err := newAWS(url+base, key).Converse(ctx, &bedrockruntime.ConverseInput{ModelId: aws.String(model), Messages: converseMessages})
		if err != nil {
			return "", err
		}
		message, isMessage := output.Output.(*types.ConverseOutputMemberMessage)
		if !isMessage {
			return "", fmt.Errorf("the answer is a %T", output.Output)
		}
		return message.Value.Content[0].(*types.ContentBlockMemberText).Value, nil
	}
}

var converseMessages = []types.Message{{
	Role:    types.ConversationRoleUser,
	Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "Hello"}},
}}
