# SPDX-License-Identifier: Apache-2.0
# Tests of the text, the epoch plan, the batch loader and the phantom cohort.
triphase_add_test(data_text
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/tokenizer_test.cpp ${CMAKE_CURRENT_LIST_DIR}/tokenizer_golden_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/epoch_plan_test.cpp ${CMAKE_CURRENT_LIST_DIR}/report_sections_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/phantom_test.cpp ${CMAKE_CURRENT_LIST_DIR}/word_split_test.cpp
  SHARED Tokenizer.AgreesWithTheReferenceOnRobertasVocabulary:TokenizerGolden.IdsOfRobertasVocabularyAreThoseOfTransformers:Specials.AReportCannotEndItselfUnderRobertasVocabulary
  LIBS triphase::data)
triphase_add_test(data_loader
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/augment_test.cpp ${CMAKE_CURRENT_LIST_DIR}/batch_loader_test.cpp
  LIBS triphase::data)
