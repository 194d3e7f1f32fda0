package main

import (
	"context"
	"fmt"
	"io"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
)

const prompt = "Say hello in one sentence."

func chat(ctx context.Context, client openai.Client, model string, w io.Writer) error {
	completion, err := client.Chat.Completions.New(ctx, chatParams(model))
	if err != nil {
		return err
	}
	for _, choice := range completion.Choices {
		fmt.Fprintln(w, choice.Message.Content)
	}
	return nil
}

func chatStream(ctx context.Context, client openai.Client, model string, w io.Writer) error {
	stream := client.Chat.Completions.NewStreaming(ctx, chatParams(model))
	defer stream.Close()
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			fmt.Fprint(w, choice.Delta.Content)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

func chatParams(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
	}
}

func respond(ctx context.Context, client openai.Client, model string, w io.Writer) error {
	response, err := client.Responses.New(ctx, responseParams(model))
	if err != nil {
		return err
	}
	fmt.Fprintln(w, response.OutputText())
	return nil
}

func respondStream(ctx context.Context, client openai.Client, model string, w io.Writer) error {
	stream := client.Responses.NewStreaming(ctx, responseParams(model))
	defer stream.Close()
	for stream.Next() {
		if event := stream.Current(); event.Type == "response.output_text.delta" {
			fmt.Fprint(w, event.Delta)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

func responseParams(model string) responses.ResponseNewParams {
	return responses.ResponseNewParams{
		Model: model,
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(prompt)},
	}
}
