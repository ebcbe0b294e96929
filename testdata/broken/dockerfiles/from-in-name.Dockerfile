FROM base IN build
